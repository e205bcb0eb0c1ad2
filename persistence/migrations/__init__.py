"""The migrations, and `run.migrate`, which applies them."""
