"""What a worker and beat need from their environment, checked at the start and named in one line."""
