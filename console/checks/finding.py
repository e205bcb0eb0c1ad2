"""What `crawlyard doctor` finds: a fact, how good it is, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    level: Level
    detail: str
    remedy: str = ""
    """One sentence; empty where all is well."""


def judged(about: str, detail: str, *, good: bool, remedy: str, otherwise: Level = "fault") -> Finding:
    """Ok if it is *good*, otherwise a fault (or what is said), with its remedy."""
    return Finding(about, "ok", detail) if good else Finding(about, otherwise, detail, remedy)
