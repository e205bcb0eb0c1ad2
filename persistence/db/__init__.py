"""The connection to Postgres: engine, errors, poolers, and values read and written without failing."""
