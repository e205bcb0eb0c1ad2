"""The order of the tests: each process starts with its share of the long ones."""

from dataclasses import dataclass
from typing import cast

import pytest

from support.orders import shared_out


@dataclass(frozen=True)
class Item:
    """A test, reduced to its marker."""

    name: str
    marker: str = ""

    def get_closest_marker(self, name: str) -> bool:
        """Return True if it has this marker."""
        return self.marker == name


SHORT = [Item(f"short {n}") for n in range(20)]
LONG = [Item("model", "long"), Item("chaos", "programs"), Item("demo", "programs")]


def in_order(items: list[Item], processes: int) -> list[Item]:
    """Return the items in the order in which they are distributed."""
    return cast("list[Item]", shared_out(cast("list[pytest.Item]", items), processes))


def test_each_process_starts_with_a_long_test() -> None:
    """Each equal part of the list starts with a long test, and the others keep their order."""
    order = in_order([*SHORT, *LONG, Item("a")], 3)
    assert [order[n] for n in (0, 8, 16)] == LONG
    assert [item for item in order if item not in LONG] == [*SHORT, Item("a")]


@pytest.mark.parametrize("processes", range(1, 30))
def test_no_test_is_omitted_or_repeated(processes: int) -> None:
    """The order holds every test once, for any number of processes and any selection."""
    for items in ([], LONG, SHORT, [*LONG, *SHORT[:1]], [*SHORT, *LONG]):
        assert sorted(in_order(items, processes), key=str) == sorted(items, key=str)
