"""
Original crawlers: what is known of each, over all of its links.

Nothing that they send says who they are. One is known again by its listener, if that is for one crawler alone, else by
its process.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ulid import ULID

from gateway.listeners.peer import Peer

_MOST_KEPT: Final = 1000
_START_TIME_FIELD: Final = 19
"""Of /proc/PID/stat, counted from what follows the name of the program."""


@dataclass(eq=False)
class Job:
    """An order, until it is known that its crawler does not work on it."""

    id: str
    order: dict[str, Any] = field(repr=False)
    token: str | None = field(default=None, repr=False)
    """The token that it was handed over with; None if this process did not hand it over."""
    link: object = None
    """The translator that handed it over."""
    requests: int = 0
    """How often the crawler has asked for work since."""
    again: bool = False
    """It was handed over a second time."""
    over: bool = False
    """Nothing is to be said about it any more: it was revoked, or its end was passed on."""


@dataclass(eq=False)
class Crawler:
    """One crawler."""

    name: str
    key: str | None
    """By which it is known again; None if it cannot be."""
    session: str | None = None
    connection_id: str = ""
    n: int = 0
    frames: int = 0
    """How many frames were given an id."""
    link: object = None
    """The translator of its newest link."""
    current: Job | None = None
    """What it works on, as far as is known. It is never given a second job: it would mix up their tokens."""
    waiting: dict[str, Job] = field(default_factory=dict)
    ended: dict[str, None] = field(default_factory=dict)
    """The jobs that it has ended: it would do them again if they were handed over again."""
    kept: dict[str, tuple[str, bytes]] = field(default_factory=dict, repr=False)
    """By id, the frames that are not acknowledged yet, each with its job."""

    def active(self) -> list[str]:
        """
        The jobs that take its slot.

        Also one that was revoked and that it works on, since it cannot be stopped; and those of which the end is not
        acknowledged.
        """
        held = [self.current.id] if self.current else []
        return list(dict.fromkeys([*held, *self.waiting, *(job_id for job_id, _ in self.kept.values())]))

    def note_end(self, job_id: str) -> None:
        """Note that it has ended a job."""
        self.waiting.pop(job_id, None)
        self.ended[job_id] = None
        _keep_newest(self.ended)


class OriginalCrawlers:
    """
    All original crawlers of a gateway.

    Those of a Unix socket keep their sessions in a file beside it, so that they keep their connections when the
    gateway is started again.
    """

    def __init__(self) -> None:
        self._known: dict[str, Crawler] = {}

    def find(self, peer: Peer) -> Crawler:
        """Return the crawler at the other end of a link."""
        key = _key_of(peer)
        if key is None:
            return Crawler(f"original-{ULID()}", None)
        if key not in self._known:
            name = peer.listener.crawler or f"original-{peer.pid}"
            self._known[key] = Crawler(name, key, _read(_file_of(peer)).get(key))
            self._drop_those_that_left()
        return self._known[key]

    def keep_session(self, peer: Peer, crawler: Crawler) -> None:
        """Keep the session of a crawler for when this process is started again."""
        file = _file_of(peer)
        if file and crawler.key and crawler.session:
            sessions = {**_read(file), crawler.key: crawler.session}
            _keep_newest(sessions)
            _write(file, sessions)

    def _drop_those_that_left(self) -> None:
        """Keep a bounded number; the oldest of those that have no link go first."""
        left = [key for key, crawler in self._known.items() if crawler.link is None]
        for key in left[: max(0, len(left) - _MOST_KEPT)]:
            del self._known[key]


def _key_of(peer: Peer) -> str | None:
    if peer.listener.crawler:
        return f"{peer.listener}#{peer.listener.crawler}"
    started = _start_time(peer.pid) if peer.pid else None
    return f"{peer.listener}#{peer.uid}#{peer.pid}#{started}" if started else None


def _start_time(pid: int) -> str | None:
    """Tell a process from a later one with its number; None if it is in another pid namespace, or gone."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8")
            .rpartition(")")[2]
            .split()[_START_TIME_FIELD]
        )
    except (OSError, IndexError):
        return None


def _file_of(peer: Peer) -> Path | None:
    return Path(f"{peer.listener.path}.sessions") if peer.listener.path else None


def _read(file: Path | None) -> dict[str, str]:
    try:
        found = json.loads(file.read_bytes()) if file else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, sessions: dict[str, str]) -> None:
    new = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with os.fdopen(
            os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as opened:
            json.dump(sessions, opened)
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)


def _keep_newest(items: dict[str, Any]) -> None:
    for key in list(items)[: max(0, len(items) - _MOST_KEPT)]:
        del items[key]
