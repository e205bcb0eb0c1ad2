"""Crawlers' connections, and what sweeps and rounds keep about themselves."""
