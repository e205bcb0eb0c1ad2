"""
From hello to welcome: who the crawler is, which connection it comes for, and what it is to do.

It is welcomed only when the connection's row names this link, and its orders have been read after that. While the
database or the broker is away it waits.
"""

import asyncio
from typing import Final

from gateway.links.claim import Claim, claim_of, fresh_claim
from gateway.links.context import Context, Neighbour
from gateway.links.hello import Hello, Identity, RefusedLinkError
from gateway.links.session import hash_of
from persistence.exceptions import CrawlyardError
from persistence.orders.hand_over import Order

_PAUSE_S: Final = 0.5
_ANSWER_S: Final = 2.0
_LONGEST_ANSWER_S: Final = 8.0


class NotResumableError(Exception):
    """The connection that a session names is closed, has said goodbye, or is somebody else's."""


class Entrance:
    """The entrance of one link."""

    def __init__(self, link: Neighbour, context: Context) -> None:
        self._link = link
        self._context = context
        self._answer: asyncio.Future[Exception | None] | None = None

    async def enter(self, hello: Hello) -> list[Order]:
        """Attach the link and return its orders. Raises RefusedLinkError."""
        identity = await self._identify(hello)
        self._link.know(identity)
        try:
            await self._attach(claim_of(hello, identity))
        except NotResumableError:
            await self._attach(fresh_claim(hello, identity))
        while True:
            try:
                return await self._context.orders.live_orders(self._claim.connection_id)
            except CrawlyardError:
                await asyncio.sleep(_PAUSE_S)

    @property
    def _claim(self) -> Claim:
        assert self._link.claim
        return self._link.claim

    async def _identify(self, hello: Hello) -> Identity:
        while True:
            try:
                return await self._context.door.identify(self._link.peer, hello)
            except CrawlyardError:
                await asyncio.sleep(_PAUSE_S)

    async def _attach(self, claim: Claim) -> None:
        """Have the row name this link; say so again until it is answered."""
        neighbours = self._context.neighbours
        if self._link.claim:
            neighbours.leave(self._link)
        self._link.claim = claim
        if seconds := neighbours.hold_off(self._link):
            raise RefusedLinkError("held_off", "the crawler connects again and again", seconds)
        others = neighbours.of(claim.connection_id)
        if any(link.is_open and link.claim and link.claim.n > claim.n for link in others):
            raise RefusedLinkError("superseded", "the session has a newer link")
        neighbours.enter(self._link)
        patience = _ANSWER_S
        self._answer = asyncio.get_running_loop().create_future()
        while True:
            self._context.reports.attach(self._said(claim))
            self._link.is_said = True
            for _ in range(2):
                done, _ = await asyncio.wait([self._answer], timeout=patience)
                if done:
                    if refusal := self._answer.result():
                        raise refusal
                    return
                self._context.orders.look_at(claim.connection_id)
            patience = min(2 * patience, _LONGEST_ANSWER_S)

    def _said(self, claim: Claim) -> dict[str, object]:
        return {
            "connection_id": claim.connection_id,
            "crawler_id": claim.crawler_id,
            "n": claim.n,
            "link": claim.link,
            "gateway": self._context.name,
            "capacity": claim.capacity,
            "session_hash": hash_of(claim.session),
            "credential_id": claim.credential_id,
        }

    def settle(self, place: tuple[int, str]) -> None:
        """Take the newest link of the connection."""
        if place == self._claim.place:
            self._resolve(None)
        elif place > self._claim.place:
            self._resolve(RefusedLinkError("superseded", "the session has a newer link"))

    def refuse(self, error: Exception) -> None:
        """Take the answer that the connection cannot be had."""
        self._resolve(error)

    def _resolve(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(error)
