"""Discoveries: what crawlers found becomes areas, authorizations and child jobs."""
