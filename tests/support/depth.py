"""How deep the tests go: as far as `make test` has time for, or as far as `make chaos` lets them."""

import os


def deep() -> bool:
    """Whether CRAWLYARD_TEST_DEPTH is `full`: real durations, thousands of examples."""
    return os.environ.get("CRAWLYARD_TEST_DEPTH") == "full"
