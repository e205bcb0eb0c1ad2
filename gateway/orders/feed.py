"""
Tells the links what the database has for them, soon after it was committed, by few queries.

It looks 0, 10 and 30 ms after a wake-up, the latter two if queries are to spare, and every 50 ms anyway. What it reads
are hints, each once; if some may be missing, and each minute anyway, every link is compared with its row.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Any

import structlog

from gateway.metrics import metrics
from gateway.orders.listener import OrderListener
from gateway.orders.lookups import CredentialLookups, HandledLookups, OrderLookups
from gateway.orders.pace import Pace
from gateway.orders.reconcile import Rotation
from gateway.orders.wake_ups import listen
from persistence.exceptions import CrawlyardError, UnsuitableDatabaseError
from persistence.orders.attempts import OwnAttempts
from persistence.orders.changes import Change, Changes
from persistence.orders.hand_over import Fence, Order, Orders
from persistence.orders.links import LinkRows
from persistence.orders.session import OrderSession
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId

log = structlog.get_logger()

POLL_S = 0.05
AFTER_WAKE_UP_S = (0.0, 0.01, 0.03)
FRESH_S = 1.0
"""What was read this long ago does not count as current any more."""

_HAND_OVER_AT_ONCE = 500
_BACKOFF_S = (0.1, 2.0)


REPORTED = "reported"
"""Why an attempt has ended: its crawler has reported it. Any other reason is that of its revocation."""


class Feed:
    """
    The one reader of the database in a gateway, an `OrderSource`; used in one event loop.

    *connections* returns the ids of the gateway's links, also of those that are not attached yet; that a connection is
    among them must be quick to find.
    """

    def __init__(
        self,
        listener: OrderListener,
        connections: Callable[[], Collection[ConnectionId]],
        session: OrderSession | None = None,
        page_rows: int | None = None,
    ) -> None:
        self._listener = listener
        self._connections = connections
        self._session = session or OrderSession()
        self._pace = Pace()
        self._lookups = OrderLookups(self._session, self._pace)
        self.credentials = CredentialLookups(self._session, self._pace)
        self.handled = HandledLookups(self._session, self._pace)
        self._changes = Changes(self._session, *([page_rows] if page_rows else []))
        self._orders = Orders(self._session)
        self._rows = LinkRows(self._session)
        self._rotation = Rotation(connections)
        self._assigned: deque[Fence] = deque()
        """What is to be handed over."""
        self._looks: list[float] = []
        """When to look because of a wake-up, besides the regular looks."""
        self._woken = asyncio.Event()
        self._has_read = False
        self._read_at = monotonic()

    @property
    def is_current(self) -> bool:
        """False while the database is away, and until all links have been compared after that."""
        return self._has_read and self.age < FRESH_S and not self._rotation.is_resyncing

    @property
    def age(self) -> float:
        """Seconds since the database was last read, or since the beginning."""
        return monotonic() - self._read_at

    def wake(self) -> None:
        """Look at once, and twice again soon: one commit wakes up, and others follow it."""
        now = monotonic()
        self._looks = [now + delay for delay in AFTER_WAKE_UP_S]
        self._woken.set()

    def look_at(self, connection_id: ConnectionId) -> None:
        """Compare this connection with its row at once."""
        self._rotation.ask_for(connection_id)
        self._woken.set()

    async def live_orders(self, connection_id: ConnectionId) -> list[Order]:
        """Read all live orders of a connection, oldest first. Raises a TransientError while the database is away."""
        return await self._lookups.live_orders(connection_id)

    async def attempts_of(self, connection_id: ConnectionId, crawler_job_ids: Collection[str]) -> OwnAttempts:
        """Tell which of these attempts are the connection's. Raises a TransientError while the database is away."""
        return await self._lookups.attempts_of(connection_id, crawler_job_ids)

    async def run(self) -> None:
        """Look for ever; to end it, cancel it."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(listen(self.wake))
                group.create_task(self._look_for_ever())
        finally:
            await self._session.close()

    async def _look_for_ever(self) -> None:
        backoff, most = _BACKOFF_S
        while True:
            self._woken.clear()
            try:
                await self.look()
                backoff = _BACKOFF_S[0]
                await self._rest()
            except UnsuitableDatabaseError:
                raise
            except CrawlyardError as error:  # a defect, too: links are not cut for what may be over soon
                metrics.count("poll_failures")
                if backoff == _BACKOFF_S[0]:
                    log.warning("orders_not_read", error=str(error))
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, most)

    async def look(self) -> None:
        """Read what has changed, and tell the links; compare those whose turn it is."""
        await self._pace.wait()
        metrics.count("polls")
        difference = await self._changes.read()
        if difference.resync:
            log.info("orders_resync", reason=difference.resync, links=len(self._connections()))
            self._rotation.resync()
        self._tell(difference.changes)
        await self._hand_over()
        await self._compare()
        self._has_read, self._read_at = True, monotonic()

    async def _rest(self) -> None:
        """Wait until the next look."""
        now = monotonic()
        # Where wake-ups are many, further looks would only delay the first look after the next one.
        self._looks = [] if self._pace.is_used_up else [at for at in self._looks if at > now]
        if self._rotation.has_more or self._assigned:
            return
        until = min([now + POLL_S, *self._looks])
        try:
            async with asyncio.timeout(until - now):
                await self._woken.wait()
        except TimeoutError:
            return

    def _tell(self, changes: list[Change]) -> None:
        ours = self._connections()
        for kind, connection_id, payload in changes:
            if connection_id is None or connection_id not in ours:
                continue
            id_ = ConnectionId(connection_id)
            if kind == EventType.JOB_ASSIGNED:
                self._assigned.append((id_, payload["crawler_job_id"]))
            elif fence := payload.get("crawler_job_id"):
                self._tell_of_attempt(kind, id_, fence, payload)
            else:
                self._tell_of_connection(kind, id_, payload)

    def _tell_of_attempt(
        self, kind: str, connection_id: ConnectionId, fence: str, payload: Mapping[str, Any]
    ) -> None:
        match kind:
            case EventType.JOB_REVOKED:
                self._listener.ended(connection_id, fence, payload["reason"])
            case EventType.JOB_UPDATED:
                self._listener.ended(connection_id, fence, REPORTED)
            case EventType.PROGRESS_UPDATED:
                self._listener.discovery_applied(fence, payload["timestamp"])

    def _tell_of_connection(self, kind: str, connection_id: ConnectionId, payload: Mapping[str, Any]) -> None:
        match kind:
            case EventType.CONNECTION_ATTACHED:
                self._listener.attached(connection_id, payload["n"], payload["link"])
            case EventType.CONNECTION_LOST:
                self._listener.connection_closed(connection_id, known=True)
            case EventType.CONNECTION_EXPIRED:
                self._listener.connection_closed(connection_id, known=payload["known"])
            case EventType.CONNECTION_REFUSED:
                self._listener.connection_refused(connection_id)

    async def _hand_over(self) -> None:
        while self._assigned:
            fences = [self._assigned.popleft() for _ in range(min(len(self._assigned), _HAND_OVER_AT_ONCE))]
            self._pace.take()  # the next look waits for it: orders do not
            try:
                orders = await self._orders.of_fences(fences)
            except BaseException:
                self._assigned.extendleft(reversed(fences))
                raise
            if orders:
                self._listener.handed_over(orders)

    async def _compare(self) -> None:
        ids = self._rotation.next(monotonic())
        if ids:
            await self._pace.wait()
            try:
                rows = await self._rows.read(ids)
            except BaseException:
                self._rotation.put_back(ids)
                raise
            for id_ in ids:
                row, live = rows.get(id_, (None, frozenset()))
                self._listener.reconciled(id_, row, live)
        self._rotation.compared()
