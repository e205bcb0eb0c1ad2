"""Which attempts are a connection's."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnAttempts:
    """Some attempts of one connection; those of others are in neither set."""

    live: frozenset[str]
    closed: frozenset[str]
