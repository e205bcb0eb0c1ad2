"""The depth of the tests: short forms for `make test`, long forms on request."""

import os


def deep() -> bool:
    """Whether CRAWLYARD_TEST_DEPTH is `full`: real durations, thousands of examples."""
    return os.environ.get("CRAWLYARD_TEST_DEPTH") == "full"
