"""The connection to Postgres: engine, errors, poolers, and adapters of values."""
