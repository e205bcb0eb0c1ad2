"""
When a connection is silent or lost: the one rule, used by the sweep and by `crawlyard status`.

What is noted of a living connection may be older than its last frame by one `heartbeat_resolution`, so the
limit is `Settings.longest_silence`, not the timeout itself.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, or_

from persistence.schema.tables import SocketConnection
from persistence.settings import settings

GOODBYE_MARGIN = timedelta(seconds=2)
"""A disconnect may overtake what its crawler reported before, as when that is in a large message."""

_NOTHING = timedelta(0)


def is_silent(as_of: datetime | ColumnElement[datetime], early: timedelta = _NOTHING) -> ColumnElement[bool]:
    """True for a connection that was silent for too long at *as_of*, or will be within *early* of it."""
    return SocketConnection.last_heartbeat < as_of - (settings().longest_silence - early)


def is_dead(as_of: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """True for a connection that was silent for too long at *as_of*, or whose lost link had no successor in time."""
    return or_(is_silent(as_of), SocketConnection.lost_at < as_of - settings().resume_window)


def is_closable(as_of: datetime) -> ColumnElement[bool]:
    """True for an active connection that was dead at *as_of*, or had disconnected GOODBYE_MARGIN before it."""
    has_left = SocketConnection.goodbye_at < as_of - GOODBYE_MARGIN
    return and_(SocketConnection.is_active, or_(is_dead(as_of), has_left))


@dataclass(frozen=True)
class FleetCounts:
    """The active connections, all or those of one gateway, counted as of some moment."""

    active: int
    silent: int
    """Dead, by silence or a lost link: a sweep would close them."""
    almost_silent: int
    """Dead, one heartbeat interval short of silence, or with a lost link: not known to be alive."""
    gateway: str | None = None
    """None: all, with and without a gateway."""
