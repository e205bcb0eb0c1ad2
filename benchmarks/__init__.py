"""Measures Crawlyard and its alternatives in one run on one machine: `make bench`."""
