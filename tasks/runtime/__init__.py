"""What every task rests on: the base class, retries, batches, chunks, rejected messages."""
