"""Chaos: a simulated fleet under faults that follow from a seed, and a reckoning afterwards; `make chaos`."""
