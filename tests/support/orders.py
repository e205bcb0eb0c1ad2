"""The order of the tests: what takes long begins first, in each of the processes that share them."""

from collections.abc import Sequence

import pytest


def takes_long(item: pytest.Item) -> bool:
    """Whether it is marked so."""
    return any(item.get_closest_marker(name) for name in ("long", "programs"))


def shared_out(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """
    The items, otherwise in their order, with long ones at the beginning of each process's share.

    `--dist worksteal` gives each process an equal stretch of the list; who has done his takes from others.
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
