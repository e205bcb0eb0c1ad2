"""
The peers: alternatives to Crawlyard, each in its own processes, and used as its documentation recommends for speed.

Each peer has one file: a program that installs its tables, works, or submits (`roles.py`). Only these files import the
peers' packages, which `scripts/bootstrap bench` installs; the benchmark's own process does not need them.
"""
