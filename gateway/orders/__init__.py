"""Orders: which there are for the connections of this gateway, read from Postgres."""
