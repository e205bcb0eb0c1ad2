"""
Whether the peer of a link reads and answers: it is asked from time to time, whatever it sends meanwhile.

What arrives shows only one direction of a link. Where the other one is cut, orders never arrive, and the crawler would
pass for alive.
"""

import secrets
from typing import Final

EVERY_S: Final = 30.0
PATIENCE_S: Final = 15.0


class Pings:
    """The pings of one link."""

    def __init__(self, now: float) -> None:
        self._proven_at = now
        self._asked_at: float | None = None
        self._nonce = ""

    def due(self, now: float, *, soon: bool = False) -> str | None:
        """Return the nonce of a ping that is to be sent now; None if none is."""
        if self._asked_at is not None or (now - self._proven_at < EVERY_S and not soon):
            return None
        self._asked_at = now
        self._nonce = secrets.token_hex(8)
        return self._nonce

    def answered(self, nonce: object, now: float) -> None:
        """Take a pong with a nonce."""
        if nonce == self._nonce:
            self.answer(now)

    def answer(self, now: float) -> None:
        """Take an answer."""
        if self._asked_at is not None:
            self._asked_at = None
            self._proven_at = now

    def is_overdue(self, now: float) -> bool:
        """True if a ping was not answered in time."""
        return self._asked_at is not None and now - self._asked_at > PATIENCE_S

    def excuse(self, seconds: float) -> None:
        """Give the peer more time: we did not read meanwhile."""
        if self._asked_at is not None:
            self._asked_at += seconds
