"""The error log, its groups, and the queries of those who look at it."""
