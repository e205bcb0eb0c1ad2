"""
Deeds: what may happen in a life of the machine, each as often as it deserves.

Rules of Hypothesis's own would be chosen by swarms, in which the few words that matter drown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

HARMLESS = "continue_work"

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Action:
    """How often a method is called, when it can be, and with what."""

    name: str
    weight: int
    needs: Callable[[Any], object]
    arguments: st.SearchStrategy[Arguments]


def action(
    weight: int = 2, needs: Callable[[Any], object] = bool, **arguments: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let the machine call a method, where it *needs* nothing, or this is true of the machine."""

    def note(method: Callable[..., None]) -> Callable[..., None]:
        method.action = Action(method.__name__, weight, needs, st.fixed_dictionaries(arguments))
        return method

    return note


def actions_of(machine: type) -> list[Action]:
    """All deeds of a machine, the most harmless first: a failing life is made as simple as can be."""
    found = [
        found_action
        for name in dir(machine)
        if (found_action := getattr(getattr(machine, name), "action", None))
    ]
    return sorted(found, key=lambda found_action: found_action.name != HARMLESS)


def any_of(actions: list[Action]) -> st.SearchStrategy[tuple[Action, Arguments]]:
    """One of the deeds, with what it is done with."""
    return st.one_of([st.tuples(st.just(d.name), d.arguments) for d in actions for _ in range(d.weight)])
