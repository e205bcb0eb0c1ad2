"""Accounts of the web app: their tokens, their blocks and their token refreshes."""
