"""Retention, old jobs, adoption of an older database, and stored statistics."""
