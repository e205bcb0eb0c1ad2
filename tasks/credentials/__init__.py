"""Tokens that died: blocked accounts, refreshes, renewals."""
