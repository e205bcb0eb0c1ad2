"""The audit: invariants as queries."""
