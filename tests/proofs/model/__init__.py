"""A small model of what the design promises, and the machine that holds the product against it."""
