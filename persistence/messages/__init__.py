"""Celery messages: those that were processed, and those that were rejected."""
