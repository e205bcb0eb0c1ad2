"""Retention of old rows, old jobs, the adoption of an older database, and stored statistics."""
