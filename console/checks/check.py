"""One thing that must be so."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What was looked at, and how it is."""

    name: str
    healthy: bool
    detail: str
