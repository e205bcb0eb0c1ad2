"""What is done for all links from time to time: pings, deadlines, and the end of those whose credential was revoked."""

import asyncio
import time
from collections.abc import Callable
from operator import methodcaller
from typing import Final

from gateway.links.hello import UNKNOWN, CredentialSource, Door
from gateway.links.link import Link
from gateway.links.registry import Registry
from persistence.exceptions import CrawlyardError

TICK_S: Final = 1.0
STALL_S: Final = 2.0
"""A longer gap between two ticks is our own: the peers are not to blame for what was not read in it."""
REVOKED_S: Final = 2.0


class Watch:
    """Looks after the links. Those that have said no hello yet are known here alone."""

    def __init__(
        self,
        registry: Registry,
        door: Door,
        credentials: CredentialSource,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._door = door
        self._credentials = credentials
        self._clock = clock
        self._strangers: set[Link] = set()

    def add(self, link: Link) -> None:
        """Take in a link of which nothing is known yet."""
        self._strangers.add(link)

    @property
    def links(self) -> list[Link]:
        """All links."""
        return [*(link for link in self._strangers if link.is_stranger), *self._registry]

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(self._look_for_revoked())

    async def _tick(self) -> None:
        last = self._clock()
        while True:
            await asyncio.sleep(TICK_S)
            now = self._clock()
            self._strangers = {link for link in self._strangers if link.is_stranger}
            links = self.links
            if now - last > TICK_S + STALL_S:
                for link in links:
                    link.excuse(now - last)
            for link in links:
                link.attempt(methodcaller("tick", now))
            last = self._clock()

    async def _look_for_revoked(self) -> None:
        while True:
            await asyncio.sleep(REVOKED_S)
            ids = {link.identity.credential_id for link in self._registry if link.identity}
            try:
                revoked = await self._credentials.revoked({id_ for id_ in ids if id_})
            except CrawlyardError:
                continue
            if revoked:
                self._door.forget()
            for link in self._registry if revoked else ():
                if link.identity and link.identity.credential_id in revoked:
                    link.stop("unauthenticated", UNKNOWN)
