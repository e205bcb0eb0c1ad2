"""The position of a reader of events: the last event that it read, and the database cluster."""

import re
from dataclasses import dataclass
from typing import Self

from persistence.exceptions import IllegalRequestError

BEGINNING = "beginning"
"""Start with the oldest event that is kept."""
NOW = "now"
"""Start after the events that can be read now; committed events that cannot be read yet still follow."""

_TEXT = re.compile(r"(-?\d{1,20}):(\d{1,20}):(\d{1,19})")
_LARGEST_XID, _LARGEST_ID = 2**64 - 1, 2**63 - 1


@dataclass(frozen=True)
class EventCursor:
    """The last event that was read. A reader stores its text, which is opaque."""

    cluster: str
    """The system identifier: transaction ids of another cluster mean nothing in this one."""
    xid: int
    id: int

    def __str__(self) -> str:
        return f"{self.cluster}:{self.xid}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a cursor. Raises IllegalRequestError if it is not one."""
        found = _TEXT.fullmatch(text)
        if not found or int(found[2]) > _LARGEST_XID or int(found[3]) > _LARGEST_ID:
            raise IllegalRequestError("a cursor is the text that came with an event")
        return cls(found[1], int(found[2]), int(found[3]))


def starting_point(text: str) -> EventCursor | str:
    """Parse `now`, `beginning` or the text of a cursor. Raises IllegalRequestError for anything else."""
    return text if text in (BEGINNING, NOW) else EventCursor.parse(text)
