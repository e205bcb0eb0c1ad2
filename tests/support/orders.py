"""The order of the tests: in each test process, the long ones come first."""

from collections.abc import Sequence

import pytest


def takes_long(item: pytest.Item) -> bool:
    """Return True if the test has a marker for long tests."""
    return any(item.get_closest_marker(name) for name in ("long", "programs"))


def shared_out(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """
    Move the long tests to the beginning of each process's share, and keep the order of the others.

    `--dist worksteal` gives each process an equal part of the list. A process that has finished its part takes tests
    from others.
    """
    long = [item for item in items if takes_long(item)]
    others = [item for item in items if not takes_long(item)]
    order: list[pytest.Item] = []
    for number in range(processes):
        share = long[number::processes]
        room = max(0, (len(items) - len(order)) // (processes - number) - len(share))
        order += share + others[:room]
        del others[:room]
    return order + others
