"""The order of the tests: the long ones come first, but one test process begins with short ones."""

from collections.abc import Iterable, Sequence

import pytest

ENOUGH = 3
"""From so many processes on, one begins with short tests."""


def takes_long(item: pytest.Item) -> bool:
    """Return True if the test has a marker for long tests."""
    return any(item.get_closest_marker(name) for name in ("long", "programs", "pooled_programs"))


def time_limit(item: pytest.Item) -> float:
    """Return the seconds that the test may take at most by its own marker; 0 without one."""
    marker = item.get_closest_marker("timeout")
    return marker.args[0] if marker else 0.0


def together(items: Iterable[pytest.Item]) -> list[list[pytest.Item]]:
    """Group the tests whose modules share programs; every other test is a group of its own."""
    groups: dict[object, list[pytest.Item]] = {}
    for item in items:
        shares = item.get_closest_marker("one_world")
        groups.setdefault(item.path if shares else item, []).append(item)
    return list(groups.values())


def longest(group: Iterable[pytest.Item]) -> float:
    """The longest time limit of a group."""
    return max(map(time_limit, group))


def shared_out(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """
    Move the long tests to the beginning of a process's share, those with the widest time limit first.

    Tests of one module that share programs are in one share, so that these are started once.

    The others keep their order. Long tests mostly wait for programs, so of three processes or more, the last one has
    only short tests: it uses the CPU meanwhile.

    `--dist worksteal` gives each process an equal part of the list. A process that has finished its part takes tests
    from others.
    """
    waiting = processes - (processes >= ENOUGH)
    groups = sorted(together(item for item in items if takes_long(item)), key=longest, reverse=True)
    others = [item for item in items if not takes_long(item)]
    order: list[pytest.Item] = []
    for number in range(processes):
        share = [item for group in groups[number::waiting] for item in group] if number < waiting else []
        room = max(0, (len(items) - len(order)) // (processes - number) - len(share))
        order += share + others[:room]
        del others[:room]
    return order + others
