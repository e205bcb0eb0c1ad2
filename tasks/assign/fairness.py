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

from persistence.fleet.connections import Seats
from persistence.jobs.account_queues import Lane
from persistence.jobs.entries import Entry
from persistence.schema.ids import AccountId, ConnectionId

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class Table:
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

    def seat(self, account: str, host: str) -> None:
        """One more lives."""
        self.by_account[account] += 1
        self.by_host[host] += 1


def quotas(lanes: Iterable[Lane], table: Table, seats: int) -> dict[tuple[str, str], int]:
    """
    How many entries to claim of each lane so that *seats* can be filled fairly.

    As if every lane were long enough; a short one leaves seats for the next round.
    """
    open_lanes = [lane for lane in lanes if table.host_room(lane.host) > 0]
    turns: Counter[str] = Counter()
    ladder = _ladder({lane.account_id: lane.last_seated_at for lane in open_lanes}, table)
    while ladder and turns.total() < seats:
        slot, last_seated_at, account = heapq.heappop(ladder)
        if turns[account] < table.account_room(account):
            turns[account] += 1
            heapq.heappush(ladder, (slot + 1, last_seated_at, account))
    return {
        (lane.account_id, lane.host): int(min(turns[lane.account_id], table.host_room(lane.host)))
        for lane in open_lanes
        if turns[lane.account_id]
    }


def in_turn(entries: Iterable[Entry], lanes: Iterable[Lane], table: Table) -> Iterator[Entry]:
    """
    The entries in the order in which they are to be seated.

    The caller seats each one on *table*, or not, before it asks for the next; an entry whose host
    or account has no room left is passed over.
    """
    waiting: defaultdict[AccountId, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda e: (-e.priority, e.scheduled_at, e.id), reverse=True):
        waiting[entry.account_id].append(entry)
    last_seated_at = {lane.account_id: lane.last_seated_at for lane in lanes}
    ladder = _ladder({account: last_seated_at[account] for account in waiting}, table)
    while ladder:
        _, last, account = heapq.heappop(ladder)
        queue = waiting[AccountId(account)]
        while queue and table.host_room(queue[-1].host) <= 0:
            queue.pop()
        if queue and table.account_room(account) > 0:
            yield queue.pop()
            heapq.heappush(ladder, (table.by_account[account], last, account))


def _ladder(last_seated_at: Mapping[str, datetime | None], table: Table) -> list[tuple[int, datetime, str]]:
    """Accounts as a heap: the next slot, then who was seated least recently."""
    ladder = [
        (table.by_account[account], last or _NEVER, account) for account, last in last_seated_at.items()
    ]
    heapq.heapify(ladder)
    return ladder


class Board:
    """The free seats of a pass: one is taken at the connection that is least laden."""

    def __init__(self, seats: Iterable[Seats], limit: int) -> None:
        self._limit = limit
        self._keeps_one_free = False
        self._connections = [(s.taken, s.connection_id, s.capacity) for s in seats]
        heapq.heapify(self._connections)

    @property
    def free(self) -> int:
        """How many more jobs this pass can seat."""
        return min(self._limit, sum(capacity - taken for taken, _, capacity in self._connections))

    def seat(self, entry: Entry) -> ConnectionId | None:
        """Take a seat for *entry*; None where there is none for it."""
        if not self._connections or self._limit == 0:
            return None
        taken, connection_id, capacity = self._connections[0]
        if entry.is_suspect:
            if taken:
                self._keep_one_free()
                return None
            heapq.heappop(self._connections)  # alone, so that no neighbour is blamed
        elif taken + 1 < capacity:
            heapq.heapreplace(self._connections, (taken + 1, connection_id, capacity))
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
