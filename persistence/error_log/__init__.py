"""The error log: its writer, its groups of similar errors, and its queries."""
