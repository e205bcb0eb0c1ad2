"""
What people would otherwise use, each in processes of its own and as its documentation teaches fast use.

One file a peer: a program that installs its tables, works, or submits (`roles.py`). They alone import
the peers' packages, which `scripts/bootstrap bench` installs; our own process does without.
"""
