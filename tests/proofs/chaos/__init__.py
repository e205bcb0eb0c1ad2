"""Chaos: a simulated fleet under faults chosen by a seed, and a verdict on what it left; `make chaos`."""
