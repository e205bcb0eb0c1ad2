"""What all tasks share: the base class, retries, batches, chunks and rejected messages."""
