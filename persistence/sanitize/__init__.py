"""Values that others chose, made safe to store: no secrets, nothing that Postgres refuses."""
