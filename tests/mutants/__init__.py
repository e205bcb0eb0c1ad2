"""
Each guard is needed: one is taken away at a time, and a test must fail.

    make mutants
    make mutants ARGS="--only fence"

The guards are data, in `guards/*.toml`. Each is tried in a copy of the project, never in the tree itself.
"""
