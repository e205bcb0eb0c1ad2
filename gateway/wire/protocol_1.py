"""
Protocol 1: newline-delimited JSON frames, in both directions. docs/wire-protocol.md specifies it.

A frame is parsed once. Its own bytes are kept, so that they need not be written again for the workers.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a crawler."""

    kind: str
    job_id: str | None
    id: str | None
    """The crawler's name for it, which is said in the ack."""
    timestamp: str
    raw: bytes = field(repr=False)
    """The whole frame as JSON, as it is to be put into a message."""
    data: dict[str, Any] = field(repr=False)
