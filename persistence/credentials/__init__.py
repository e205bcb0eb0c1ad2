"""Accounts, their blocks for want of a token, and token refreshes."""
