"""Links without sockets, databases or a broker."""

from collections.abc import Iterator

import pytest

from support.gateway.stages import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A gateway's links, and what is around them, played."""
    with Stage() as stage:
        yield stage
