"""The order of the tests: every process but the last starts with its share of the long ones."""

from dataclasses import dataclass
from typing import cast

import pytest

from support.orders import shared_out


@dataclass(frozen=True)
class Item:
    """A test, reduced to its markers."""

    name: str
    marker: str = ""
    limit: float = 0
    path: str = ""
    """The module, of a test that shares its programs."""

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        """Return the marker of this name, if it has it."""
        if name == "timeout" and self.limit:
            return pytest.mark.timeout(self.limit).mark
        if name == "one_world" and self.path:
            return pytest.mark.one_world.mark
        return getattr(pytest.mark, name).mark if name == self.marker else None


SHORT = [Item(f"short {n}") for n in range(20)]
LONG = [Item("model", "long"), Item("chaos", "programs"), Item("demo", "programs")]


def in_order(items: list[Item], processes: int) -> list[Item]:
    """Return the items in the order in which they are distributed."""
    return cast("list[Item]", shared_out(cast("list[pytest.Item]", items), processes))


@pytest.mark.parametrize(("processes", "starts"), [(2, (0, 1, 12)), (4, (0, 6, 12))])
def test_every_process_but_the_last_of_many_starts_with_a_long_test(
    processes: int, starts: tuple[int, ...]
) -> None:
    """Equal parts of the list start with long tests, but for the last of three or more; the others keep their order."""
    order = in_order([*SHORT, *LONG, Item("a")], processes)
    assert {order[n] for n in starts} == set(LONG)
    assert [item for item in order if item not in LONG] == [*SHORT, Item("a")]


def test_the_widest_time_limit_comes_first() -> None:
    """A long test with a wide limit would otherwise end last, alone."""
    model, chaos = Item("model", "long", 1200), Item("chaos", "programs", 600)
    assert in_order([Item("a"), LONG[2], chaos, model], 1) == [model, chaos, LONG[2], Item("a")]


def test_tests_that_share_programs_stay_together() -> None:
    """Programs that each process would start anew are started once."""
    shared = [Item(f"shared {n}", "programs", path="tests/gateway/test_lives.py") for n in range(5)]
    order = in_order([LONG[0], *shared[:2], LONG[1], *shared[2:], *SHORT], 4)
    first = order.index(shared[0])

    assert order[first : first + 5] == shared


@pytest.mark.parametrize("processes", range(1, 30))
def test_no_test_is_omitted_or_repeated(processes: int) -> None:
    """The order holds every test once, for any number of processes and any selection."""
    for items in ([], LONG, SHORT, [*LONG, *SHORT[:1]], [*SHORT, *LONG]):
        assert sorted(in_order(items, processes), key=str) == sorted(items, key=str)
