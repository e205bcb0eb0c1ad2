"""Periodic work: reconcile, cleanup, statistics."""
