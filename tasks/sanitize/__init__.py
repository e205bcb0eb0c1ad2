"""Junk and texts of messages: what is refused, and what is redacted before a transaction begins."""
