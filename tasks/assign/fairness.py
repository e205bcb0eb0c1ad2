"""
Who is seated next, and where: pure arithmetic, so that fairness can be read and tested by itself.

Between accounts it is fairness: each account's next job takes the slot numbered by its live
assignments, the lowest slot goes first, ties go to the account that was seated least recently.
Within an account it is priority, then age. Caps apply before seats are counted out, so that a full
host or account hides nobody.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from persistence.fleet.connections import ConnectionSlots
from persistence.jobs.account_queues import HostQueue
from persistence.jobs.entries import Entry
from persistence.schema.ids import AccountId, ConnectionId

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class LiveLoad:
    """Live assignments by (account, host), as they stand and as they grow while a pass seats."""

    live: Counter[tuple[str, str]]
    account_cap: int | None
    host_cap: int | None
    by_account: Counter[str] = field(init=False)
    by_host: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        self.by_account, self.by_host = Counter(), Counter()
        for (account, host), live in self.live.items():
            self.by_account[account] += live
            self.by_host[host] += live

    def account_room(self, account: str) -> float:
        """How many more of the account's jobs may live."""
        return float("inf") if self.account_cap is None else self.account_cap - self.by_account[account]

    def host_room(self, host: str) -> float:
        """How many more jobs may live on the host; jobs without one know no cap."""
        return float("inf") if self.host_cap is None or not host else self.host_cap - self.by_host[host]

    def add(self, account: str, host: str) -> None:
        """One more lives."""
        self.by_account[account] += 1
        self.by_host[host] += 1


def quotas(queues: Iterable[HostQueue], live_load: LiveLoad, slots: int) -> dict[tuple[str, str], int]:
    """
    How many entries to claim of each lane so that *slots* can be filled fairly.

    As if every lane were long enough; a short one leaves seats for the next round.
    """
    open_queues = [queue for queue in queues if live_load.host_room(queue.host) > 0]
    turns: Counter[str] = Counter()
    heap = _heap_by_load({queue.account_id: queue.last_seated_at for queue in open_queues}, live_load)
    while heap and turns.total() < slots:
        slot, last_seated_at, account = heapq.heappop(heap)
        if turns[account] < live_load.account_room(account):
            turns[account] += 1
            heapq.heappush(heap, (slot + 1, last_seated_at, account))
    return {
        (queue.account_id, queue.host): int(min(turns[queue.account_id], live_load.host_room(queue.host)))
        for queue in open_queues
        if turns[queue.account_id]
    }


def assignment_order(
    entries: Iterable[Entry], queues: Iterable[HostQueue], live_load: LiveLoad
) -> Iterator[Entry]:
    """
    The entries in the order in which they are to be seated.

    The caller seats each one on *live_load*, or not, before it asks for the next; an entry whose host
    or account has no room left is passed over.
    """
    waiting: defaultdict[AccountId, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda e: (-e.priority, e.scheduled_at, e.id), reverse=True):
        waiting[entry.account_id].append(entry)
    last_seated_at = {host_queue.account_id: host_queue.last_seated_at for host_queue in queues}
    heap = _heap_by_load({account: last_seated_at[account] for account in waiting}, live_load)
    while heap:
        _, last, account = heapq.heappop(heap)
        queue = waiting[AccountId(account)]
        while queue and live_load.host_room(queue[-1].host) <= 0:
            queue.pop()
        if queue and live_load.account_room(account) > 0:
            yield queue.pop()
            heapq.heappush(heap, (live_load.by_account[account], last, account))


def _heap_by_load(
    last_seated_at: Mapping[str, datetime | None], live_load: LiveLoad
) -> list[tuple[int, datetime, str]]:
    """Accounts as a heap: the next slot, then who was seated least recently."""
    heap = [
        (live_load.by_account[account], last or _NEVER, account) for account, last in last_seated_at.items()
    ]
    heapq.heapify(heap)
    return heap


class FreeSlots:
    """The free seats of a pass: one is taken at the connection that is least laden."""

    def __init__(self, slots: Iterable[ConnectionSlots], limit: int) -> None:
        self._limit = limit
        self._keeps_one_free = False
        self._connections = [(s.used, s.connection_id, s.capacity) for s in slots]
        heapq.heapify(self._connections)

    @property
    def free(self) -> int:
        """How many more jobs this pass can seat."""
        return min(self._limit, sum(capacity - used for used, _, capacity in self._connections))

    def take(self, entry: Entry) -> ConnectionId | None:
        """Take a seat for *entry*; None where there is none for it."""
        if not self._connections or self._limit == 0:
            return None
        used, connection_id, capacity = self._connections[0]
        if entry.is_suspect:
            if used:
                self._keep_one_free()
                return None
            heapq.heappop(self._connections)  # alone, so that no neighbour is blamed
        elif used + 1 < capacity:
            heapq.heapreplace(self._connections, (used + 1, connection_id, capacity))
        else:
            heapq.heappop(self._connections)
        self._limit -= 1
        return connection_id

    def _keep_one_free(self) -> None:
        """
        Keep the least laden connection from being filled, until it is empty for a suspect.

        One a pass, however many suspects wait; it is the least laden in the next pass too.
        """
        if not self._keeps_one_free:
            heapq.heappop(self._connections)
            self._keeps_one_free = True
