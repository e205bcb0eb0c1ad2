"""Where a reader of events stands: the last event that it has read, and in which cluster."""

import re
from dataclasses import dataclass
from typing import Self

from persistence.exceptions import IllegalRequestError

BEGINNING = "beginning"
"""All that is kept."""
NOW = "now"
"""Only what comes, and what is committed already and cannot be read yet."""

_TEXT = re.compile(r"(-?\d{1,20}):(\d{1,20}):(\d{1,19})")
_LARGEST_XID, _LARGEST_ID = 2**64 - 1, 2**63 - 1


@dataclass(frozen=True)
class EventCursor:
    """The last event that was read. Its text is opaque to callers; it alone is to be kept."""

    cluster: str
    """The system identifier: transaction ids of another cluster say nothing in this one."""
    xid: int
    id: int

    def __str__(self) -> str:
        return f"{self.cluster}:{self.xid}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor of its text. Raises IllegalRequestError where it is none."""
        found = _TEXT.fullmatch(text)
        if not found or int(found[2]) > _LARGEST_XID or int(found[3]) > _LARGEST_ID:
            raise IllegalRequestError("a cursor is the text that came with an event")
        return cls(found[1], int(found[2]), int(found[3]))


def starting_point(text: str) -> EventCursor | str:
    """`now`, `beginning`, or the cursor of its text. Raises IllegalRequestError for anything else."""
    return text if text in (BEGINNING, NOW) else EventCursor.parse(text)
