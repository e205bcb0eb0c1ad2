"""Simulated crawlers behind a simulated gateway, for the demo, the tests and the benchmarks."""
