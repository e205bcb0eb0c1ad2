"""Read-only views for operators. Nothing is decided by them."""
