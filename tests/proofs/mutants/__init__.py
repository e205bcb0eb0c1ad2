"""
Each guard is needed: one is taken away at a time, and a test must fail.

    make mutants
    make mutants ARGS="--only fence"

The guards are data, in `guards/*.toml`. Each is tried in a copy of the project, never in the tree itself.

    [[guard]]
    name = "no-secret-in-metadata"
    why = "what a crawler says of itself is redacted"
    tests = ["test_secrets_of_a_registration_are_not_stored"]
    edit = [{ at = "Connections.register", old = "redact(metadata)", new = "metadata" }]

`tests` names test functions or whole files, and `at` a symbol of the product in which `old` occurs once. Neither
names a folder, so a file may be moved. `module:symbol` tells apart two symbols that have the same name.
"""
