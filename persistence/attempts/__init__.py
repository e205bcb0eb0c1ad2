"""Attempts: each is one try of one job on one connection."""
