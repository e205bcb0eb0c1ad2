"""Makes values that others chose safe to store: without secrets, and accepted by Postgres."""
