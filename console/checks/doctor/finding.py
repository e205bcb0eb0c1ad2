"""A finding of `crawlyard doctor`: a fact, its level, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that was examined."""

    about: str
    level: Level
    detail: str
    remedy: str = ""
    """One sentence; empty if the level is ok."""


def judged(about: str, detail: str, *, good: bool, remedy: str, otherwise: Level = "fault") -> Finding:
    """Return a finding that is ok if *good*, else of the level *otherwise*, with the remedy."""
    return Finding(about, "ok", detail) if good else Finding(about, otherwise, detail, remedy)
