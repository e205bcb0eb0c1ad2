"""The error log: failures that others report, and their resolution."""
