"""A crawler's first frame: what it says, and whether it is who it says it is."""

import asyncio
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.links.session import connection_of
from gateway.listeners.peer import Peer
from persistence.orders.credentials import Credential
from persistence.sanitize.crawler_secret import hash_of, is_secret
from persistence.schema.ids import ConnectionId
from tasks.contract.frames import DEFAULT_CAPACITY

PROTOCOL: Final = 1
MAX_N: Final = 2**53

UNKNOWN: Final = "the gateway does not know this crawler"
"""Whatever is wrong with its secret."""

_MAX_NAME: Final = 200
_MAX_CAPACITY: Final = 1000

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 8.0
_REMEMBERED_S: Final = 300.0
_MAX_REMEMBERED: Final = 10_000
_CACHE_S: Final = 2.0


class CredentialSource(Protocol):
    """The table of credentials, seen by the links."""

    async def find(self, secret_hash: str) -> Credential | None:
        """Return the valid credential whose secret has this hash. Raises a TransientError."""

    async def revoked(self, credential_ids: Collection[str]) -> set[str]:
        """Return those of these by which no link may stay open. Raises a TransientError."""


class RefusedLinkError(Exception):
    """A link is refused: it is told the code and the text, and closed."""

    def __init__(self, code: str, message: str, retry_after: float = 0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Hello:
    """What a crawler says first."""

    crawler_id: str
    n: int
    secret: str | None = field(repr=False)
    session: str | None = field(repr=False)
    capacity: int | None

    @property
    def connection_id(self) -> ConnectionId | None:
        """The connection that its session names."""
        return connection_of(self.session) if self.session else None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a crawler is known to be."""

    credential_id: str | None
    """None: its user of the operating system is trusted."""
    name: str
    max_capacity: int | None


def read_hello(data: dict[str, Any]) -> Hello:
    """Read the data of a hello. Raises RefusedLinkError."""
    if data.get("protocol") != PROTOCOL:
        raise RefusedLinkError("unsupported_protocol", f"protocol: this gateway knows {PROTOCOL}")
    crawler_id, n = data.get("crawlerId"), data.get("n")
    if not isinstance(crawler_id, str) or not 0 < len(crawler_id) <= _MAX_NAME or "\0" in crawler_id:
        raise RefusedLinkError("hello_expected", f"crawlerId: must be a text of 1 to {_MAX_NAME} characters")
    if type(n) is not int or not 0 <= n <= MAX_N:
        raise RefusedLinkError("hello_expected", "n: must be an integer from 0 to 2^53")
    for name in ("secret", "session"):
        if not isinstance(data.get(name), str | None):
            raise RefusedLinkError("hello_expected", f"{name}: must be a text")
    capacity = data.get("capacity")
    if capacity is not None and (type(capacity) is not int or not 0 <= capacity <= _MAX_CAPACITY):
        raise RefusedLinkError("hello_expected", f"capacity: must be an integer from 0 to {_MAX_CAPACITY}")
    return Hello(crawler_id, n, data.get("secret"), data.get("session"), capacity)


def capacity_of(asked: int | None, identity: Identity) -> int:
    """Return how many jobs a crawler gets at once: what it asks for, within the bound of its credential."""
    wanted = DEFAULT_CAPACITY if asked is None else asked
    return wanted if identity.max_capacity is None else min(wanted, identity.max_capacity)


class Door:
    """Lets crawlers in that are known. Who shows a wrong secret waits for the answer, each time longer."""

    def __init__(
        self,
        credentials: CredentialSource,
        clock: Callable[[], float] = time.monotonic,
        uid: int | None = None,
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._uid = os.geteuid() if uid is None else uid
        self._known: dict[str, tuple[float, Credential]] = {}
        """By the hashes of secrets, for a moment: when many processes of one crawler come at once."""
        self._failures: dict[str, tuple[float, int]] = {}

    async def identify(self, peer: Peer, hello: Hello) -> Identity:
        """
        Return who is at the other end.

        Raises RefusedLinkError, which is the same for every reason, and DatabaseLost.
        """
        if peer.listener.crawler not in (None, hello.crawler_id):
            pass  # this address is another one's
        elif hello.secret is not None:
            known = await self._find(hello.secret)
            if known:
                return Identity(known.credential_id, known.name, known.capacity)
        elif self._is_trusted(peer):
            return Identity(None, peer.listener.crawler or hello.crawler_id, None)
        await asyncio.sleep(self._delay(peer.source))
        raise RefusedLinkError("unauthenticated", UNKNOWN)

    def forget(self) -> None:
        """Read every credential anew when it is shown next."""
        self._known.clear()

    def _is_trusted(self, peer: Peer) -> bool:
        listener = peer.listener
        if listener.trusts_peer:
            return peer.uid is not None and peer.uid in (listener.uids or {self._uid})
        # Of the original dialect, which knows no secrets: its address is on loopback and has one crawler.
        return listener.dialect == "original" and listener.crawler is not None

    async def _find(self, secret: str) -> Credential | None:
        if not is_secret(secret):
            return None
        shown = hash_of(secret)
        now = self._clock()
        cached = self._known.get(shown)
        if cached and now - cached[0] < _CACHE_S:
            return cached[1]
        # Of a secret only the hash is looked up, which nobody can steer towards another one: how long that takes tells
        # nothing.
        found = await self._credentials.find(shown)
        self._known.pop(shown, None)
        if found:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[shown] = now, found
        return found

    def _delay(self, source: str) -> float:
        """Return how long this host or user waits for its answer, and note that it has failed once more."""
        now = self._clock()
        at, failures = self._failures.pop(source, (now, 0))
        if now - at > _REMEMBERED_S:
            failures = 0
        self._failures[source] = now, failures + 1
        if len(self._failures) > _MAX_REMEMBERED:
            del self._failures[next(iter(self._failures))]
        return float(min(_FIRST_DELAY_S * 2 ** min(failures, 10), _LONGEST_DELAY_S))
