"""The order of the tests: each process begins with its share of what takes long."""

from dataclasses import dataclass
from typing import cast

import pytest

from support.orders import shared_out


@dataclass(frozen=True)
class Item:
    """A test, as far as its order is concerned."""

    name: str
    marker: str = ""

    def get_closest_marker(self, name: str) -> bool:
        """Whether it is marked so."""
        return self.marker == name


SHORT = [Item(f"short {n}") for n in range(20)]
LONG = [Item("model", "long"), Item("chaos", "programs"), Item("demo", "programs")]


def in_order(items: list[Item], processes: int) -> list[Item]:
    """The items as they are shared out."""
    return cast("list[Item]", shared_out(cast("list[pytest.Item]", items), processes))


def test_each_process_begins_with_a_long_one() -> None:
    """At the beginning of each stretch of the same length; the others keep their order."""
    order = in_order([*SHORT, *LONG, Item("a")], 3)
    assert [order[n] for n in (0, 8, 16)] == LONG
    assert [item for item in order if item not in LONG] == [*SHORT, Item("a")]


@pytest.mark.parametrize("processes", range(1, 30))
def test_none_is_left_out_and_none_is_run_twice(processes: int) -> None:
    """However many processes there are, and whatever is chosen."""
    for items in ([], LONG, SHORT, [*LONG, *SHORT[:1]], [*SHORT, *LONG]):
        assert sorted(in_order(items, processes), key=str) == sorted(items, key=str)
