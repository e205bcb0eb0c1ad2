"""Measures Crawlyard beside what people would otherwise use, in one run on one machine: `make bench`."""
