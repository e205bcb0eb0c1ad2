"""
Which job is assigned next, and where: pure arithmetic, so that fairness can be read and tested by itself.

Between accounts, the account with the fewest live attempts comes next; ties go to the account that was served
least recently. Within an account, priority decides, then age. Caps apply before slots are shared out, so that a
full host or account does not hide other jobs.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from persistence.fleet.slots import ConnectionSlots
from persistence.jobs.account_queues import HostQueue
from persistence.jobs.entries import Entry
from persistence.jobs.live_counts import HostQueueKey
from persistence.schema.ids import AccountId, ConnectionId

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class LiveLoad:
    """Live attempts by account and by host, which grow as a round assigns jobs."""

    live: Counter[HostQueueKey]
    account_cap: int | None
    host_cap: int | None
    probing: Container[str] = ()
    """Accounts that may have one live attempt, to see whether their token works."""
    by_account: Counter[str] = field(init=False)
    by_host: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        self.by_account, self.by_host = Counter(), Counter()
        for (account, host), live in self.live.items():
            self.by_account[account] += live
            self.by_host[host] += live

    def account_room(self, account: str) -> float:
        """How many more live attempts the account may have."""
        cap = 1 if account in self.probing else self.account_cap
        return float("inf") if cap is None else cap - self.by_account[account]

    def host_room(self, host: str) -> float:
        """How many more live attempts the host may have. Jobs without a host have no cap."""
        return float("inf") if self.host_cap is None or not host else self.host_cap - self.by_host[host]

    def add(self, account: str, host: str) -> None:
        """Count one more live attempt."""
        self.by_account[account] += 1
        self.by_host[host] += 1


def quotas(queues: Iterable[HostQueue], live_load: LiveLoad, slots: int) -> dict[HostQueueKey, int]:
    """
    How many entries to claim from each host queue so that *slots* can be filled fairly.

    Assumes that every queue is long enough; a short one leaves slots to the next claim.
    """
    open_queues = [queue for queue in queues if live_load.host_room(queue.host) > 0]
    turns: Counter[str] = Counter()
    heap = _heap_by_load({queue.account_id: queue.last_seated_at for queue in open_queues}, live_load)
    while heap and turns.total() < slots:
        load, last_seated_at, account = heapq.heappop(heap)
        if turns[account] < live_load.account_room(account):
            turns[account] += 1
            heapq.heappush(heap, (load + 1, last_seated_at, account))
    return {
        (queue.account_id, queue.host): int(min(turns[queue.account_id], live_load.host_room(queue.host)))
        for queue in open_queues
        if turns[queue.account_id]
    }


def assignment_order(
    entries: Iterable[Entry], queues: Iterable[HostQueue], live_load: LiveLoad
) -> Iterator[Entry]:
    """
    Yield the entries in the order in which they are to be assigned.

    The caller adds each one that it assigns to *live_load* before it asks for the next. Entries whose host or
    account has no room left are skipped.
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
    """Return a heap of accounts: first the fewest live attempts, then the account served least recently."""
    heap = [
        (live_load.by_account[account], last or _NEVER, account) for account, last in last_seated_at.items()
    ]
    heapq.heapify(heap)
    return heap


class FreeSlots:
    """The free slots of a round. Each is taken at the connection that is used least."""

    def __init__(self, slots: Iterable[ConnectionSlots], limit: int) -> None:
        self._limit = limit
        self._keeps_one_free = False
        self._connections = [(s.used, s.connection_id, s.capacity) for s in slots]
        heapq.heapify(self._connections)

    @property
    def free(self) -> int:
        """How many more jobs this round can assign."""
        return min(self._limit, sum(capacity - used for used, _, capacity in self._connections))

    def take(self, entry: Entry) -> ConnectionId | None:
        """Take a slot for *entry*; None if there is none for it."""
        if not self._connections or self._limit == 0:
            return None
        used, connection_id, capacity = self._connections[0]
        if entry.is_suspect:
            if used:
                self._keep_one_free()
                return None
            heapq.heappop(self._connections)  # alone, so that no other job is blamed for a loss
        elif used + 1 < capacity:
            heapq.heapreplace(self._connections, (used + 1, connection_id, capacity))
        else:
            heapq.heappop(self._connections)
        self._limit -= 1
        return connection_id

    def _keep_one_free(self) -> None:
        """
        Keep the least used connection from being filled, until it is empty and a suspect can have it.

        One per round, however many suspects wait. It is the least used one in the next round too.
        """
        if not self._keeps_one_free:
            heapq.heappop(self._connections)
            self._keeps_one_free = True
