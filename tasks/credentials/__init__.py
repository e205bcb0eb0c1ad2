"""Tokens of accounts: attempts whose token died, token refreshes, and renewed tokens."""
