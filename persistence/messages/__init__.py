"""Celery messages that were processed, and those that were rejected."""
