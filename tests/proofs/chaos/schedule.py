"""Which fault is done when, to what, and for how long: all of it from the seed, before anything runs."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from proofs.chaos.faults import FAULTS, Blow, Fault, MessagesConfused

_LATEST_START = 0.95
"""Of the span."""


@dataclass(frozen=True)
class Planned:
    """One fault; times are seconds from the beginning."""

    at: float
    fault: str
    blow: Blow
    seconds: float

    @property
    def until(self) -> float:
        """When it is healed."""
        return self.at + self.seconds


def plan(seed: int, span: float, names: Collection[str], every: float) -> list[Planned]:
    """
    Faults for *span* seconds, one each *every* seconds in the mean; each kind once before any comes again.

    Faults overlap, but no two last on one target at a time. The messages are confused all the time.
    """
    chance = random.Random(f"{seed} faults")
    planned = [
        Planned(0.0, name, Blow("messages", 0.0), span) for name in names if name == MessagesConfused.name
    ]
    kinds = [FAULTS[name] for name in names if name != MessagesConfused.name]
    busy_until: dict[str, float] = {}
    at = 0.0
    for fault in _kinds(chance, kinds):
        at += chance.uniform(0.2, 1.8) * every
        if at > _LATEST_START * span:
            break
        if one := _planned(chance, fault, at, span, busy_until):
            busy_until[one.blow.target] = one.until
            planned.append(one)
    return planned


def _kinds(chance: random.Random, kinds: list[Fault]) -> Iterator[Fault]:
    """A shuffled deck of them, then any, by weight, for ever."""
    yield from chance.sample(kinds, k=len(kinds))
    while kinds:
        yield chance.choices(kinds, weights=[fault.weight for fault in kinds])[0]


def _planned(
    chance: random.Random, fault: Fault, at: float, span: float, busy_until: dict[str, float]
) -> Planned | None:
    """On a target that is free, or as soon as one is."""
    seconds, lot = chance.uniform(*fault.seconds), chance.random()
    target = min(
        chance.sample(fault.targets, k=len(fault.targets)), key=lambda t: max(busy_until.get(t, 0.0), at)
    )
    at = max(at, busy_until.get(target, 0.0) + 0.1)
    if at > span:
        return None
    return Planned(at, fault.name, Blow(target, lot), min(seconds, span - at))
