"""
Each guard of the product is removed, one at a time, and a test must fail.

    make mutants
    make mutants ARGS="--only fence"

The guards are data, in `guards/*.toml`. Each mutant is a copy of the project; the tree itself is never edited.

    [[guard]]
    name = "no-secret-in-metadata"
    why = "the metadata of a registration is redacted"
    tests = ["test_secrets_of_a_registration_are_not_stored"]
    edit = [{ at = "Connections.register", old = "redact(metadata)", new = "metadata" }]

`tests` names test functions or whole files, and `at` a symbol of the product in which `old` occurs once. Neither
names a folder, so a file may be moved. `module:symbol` tells apart two symbols that have the same name.
"""
