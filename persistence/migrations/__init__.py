"""Alembic's migrations, and `run.migrate`, which runs them."""
