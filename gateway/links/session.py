"""
The session by which a crawler comes back to its connection: the connection's id and 128 random bits.

It is no proof of who somebody is: a secret, or the peer's uid, is asked for with it.
"""

import re
import secrets
from hashlib import sha256
from typing import Final

from persistence.schema.ids import ConnectionId

_RANDOM_BYTES: Final = 16
_FORM: Final = re.compile(r"([0-7][0-9A-HJKMNP-TV-Z]{25})\.[A-Za-z0-9_-]{16,64}")


def new_session(connection_id: ConnectionId) -> str:
    """Make a session for a new connection."""
    return f"{connection_id}.{secrets.token_urlsafe(_RANDOM_BYTES)}"


def connection_of(session: str) -> ConnectionId | None:
    """Return the connection that a session names; None if it has not the form of one."""
    named = _FORM.fullmatch(session)
    return ConnectionId(named[1]) if named else None


def hash_of(session: str) -> str:
    """The SHA-256 of a session, in hex: all that is kept of it."""
    return sha256(session.encode()).hexdigest()
