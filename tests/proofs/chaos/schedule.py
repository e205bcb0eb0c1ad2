"""Which fault is done when, to what, and for how long: all of it from the seed, before anything runs."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from proofs.chaos.faults import FAULTS, Fault, Injection, MessagesConfused

_LATEST_START = 0.95
"""Of the span."""


@dataclass(frozen=True)
class PlannedFault:
    """One fault; times are seconds from the beginning."""

    at: float
    fault: str
    injection: Injection
    seconds: float

    @property
    def until(self) -> float:
        """When it is healed."""
        return self.at + self.seconds


def plan(seed: int, span: float, names: Collection[str], every: float) -> list[PlannedFault]:
    """
    Faults for *span* seconds, one each *every* seconds in the mean; each kind once before any comes again.

    Faults overlap, but no two last on one target at a time. The messages are confused all the time.
    """
    rng = random.Random(f"{seed} faults")
    planned = [
        PlannedFault(0.0, name, Injection("messages", 0.0), span)
        for name in names
        if name == MessagesConfused.name
    ]
    kinds = [FAULTS[name] for name in names if name != MessagesConfused.name]
    busy_until: dict[str, float] = {}
    at = 0.0
    for fault in _kinds(rng, kinds):
        at += rng.uniform(0.2, 1.8) * every
        if at > _LATEST_START * span:
            break
        if one := _planned(rng, fault, at, span, busy_until):
            busy_until[one.injection.target] = one.until
            planned.append(one)
    return planned


def _kinds(rng: random.Random, kinds: list[Fault]) -> Iterator[Fault]:
    """A shuffled deck of them, then any, by weight, for ever."""
    yield from rng.sample(kinds, k=len(kinds))
    while kinds:
        yield rng.choices(kinds, weights=[fault.weight for fault in kinds])[0]


def _planned(
    rng: random.Random, fault: Fault, at: float, span: float, busy_until: dict[str, float]
) -> PlannedFault | None:
    """On a target that is free, or as soon as one is."""
    seconds, draw = rng.uniform(*fault.seconds), rng.random()
    target = min(
        rng.sample(fault.targets, k=len(fault.targets)), key=lambda t: max(busy_until.get(t, 0.0), at)
    )
    at = max(at, busy_until.get(target, 0.0) + 0.1)
    if at > span:
        return None
    return PlannedFault(at, fault.name, Injection(target, draw), min(seconds, span - at))
