"""Credentials of crawlers, as a gateway asks for them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that is valid."""

    credential_id: str
    name: str
    capacity: int | None
    """The most jobs at once of one connection; None: only CRAWLYARD_MAX_CAPACITY bounds them."""
