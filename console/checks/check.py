"""The result of one check of `crawlyard health`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What was checked, and with what result."""

    name: str
    healthy: bool
    detail: str
