"""The plan of a run: which fault hits which target, when, and for how long. It follows from the seed alone."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from proofs.chaos.faults import FAULTS, Fault, Injection, MessagesConfused

_LATEST_START = 0.95
"""Of the span."""


@dataclass(frozen=True)
class PlannedFault:
    """One fault; times are seconds from the start."""

    at: float
    fault: str
    injection: Injection
    seconds: float

    @property
    def until(self) -> float:
        """When it is undone."""
        return self.at + self.seconds


def plan(seed: int, span: float, names: Collection[str], every: float) -> list[PlannedFault]:
    """
    Plan faults for *span* seconds, one every *every* seconds on average; each kind comes once before any repeats.

    Faults on different targets may overlap. The messages are confused during the whole run.
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
    """Yield each kind once, shuffled, then any kinds by weight, without end."""
    yield from rng.sample(kinds, k=len(kinds))
    while kinds:
        yield rng.choices(kinds, weights=[fault.weight for fault in kinds])[0]


def _planned(
    rng: random.Random, fault: Fault, at: float, span: float, busy_until: dict[str, float]
) -> PlannedFault | None:
    """Plan it on a free target, or on the one that is free first."""
    seconds, draw = rng.uniform(*fault.seconds), rng.random()
    target = min(
        rng.sample(fault.targets, k=len(fault.targets)), key=lambda t: max(busy_until.get(t, 0.0), at)
    )
    at = max(at, busy_until.get(target, 0.0) + 0.1)
    if at > span:
        return None
    return PlannedFault(at, fault.name, Injection(target, draw), min(seconds, span - at))
