"""
Deeds: what may happen in a life of the machine, each as often as it deserves.

Rules of Hypothesis's own would be chosen by swarms, in which the few words that matter drown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

HARMLESS = "work_goes_on"

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Deed:
    """How often a method is called, when it can be, and with what."""

    name: str
    weight: int
    needs: Callable[[Any], object]
    arguments: st.SearchStrategy[Arguments]


def deed(
    weight: int = 2, needs: Callable[[Any], object] = bool, **arguments: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let the machine call a method, where it *needs* nothing, or this is true of the machine."""

    def note(method: Callable[..., None]) -> Callable[..., None]:
        method.deed = Deed(method.__name__, weight, needs, st.fixed_dictionaries(arguments))
        return method

    return note


def deeds_of(machine: type) -> list[Deed]:
    """All deeds of a machine, the most harmless first: a failing life is made as simple as can be."""
    found = [said for name in dir(machine) if (said := getattr(getattr(machine, name), "deed", None))]
    return sorted(found, key=lambda said: said.name != HARMLESS)


def any_of(deeds: list[Deed]) -> st.SearchStrategy[tuple[Deed, Arguments]]:
    """One of the deeds, with what it is done with."""
    return st.one_of([st.tuples(st.just(d.name), d.arguments) for d in deeds for _ in range(d.weight)])
