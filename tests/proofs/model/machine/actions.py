"""
Actions of the machine, chosen by weight.

Hypothesis chooses among rules by swarms, in which the few messages that matter would be rare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

HARMLESS = "continue_work"

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Action:
    """A method, how often it is called, when it can be, and its arguments."""

    name: str
    weight: int
    needs: Callable[[Any], object]
    arguments: st.SearchStrategy[Arguments]


def action(
    weight: int = 2, needs: Callable[[Any], object] = bool, **arguments: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a method an action, which is possible while *needs* is true of the machine."""

    def register(method: Callable[..., None]) -> Callable[..., None]:
        registered = Action(method.__name__, weight, needs, st.fixed_dictionaries(arguments))
        method.action = registered  # type: ignore[attr-defined]
        return method

    return register


def actions_of(machine: type) -> list[Action]:
    """Return all actions of a machine, the most harmless first, to which Hypothesis shrinks a failing run."""
    found = [
        found_action
        for name in dir(machine)
        if (found_action := getattr(getattr(machine, name), "action", None))
    ]
    return sorted(found, key=lambda found_action: found_action.name != HARMLESS)


def any_of(actions: list[Action]) -> st.SearchStrategy[tuple[Action, Arguments]]:
    """One of the actions, with its arguments."""
    return st.one_of([st.tuples(st.just(d.name), d.arguments) for d in actions for _ in range(d.weight)])
