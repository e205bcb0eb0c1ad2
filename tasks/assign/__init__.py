"""The assignment round: which job goes to which connection."""
