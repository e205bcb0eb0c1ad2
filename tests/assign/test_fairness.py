"""The arithmetic of the pass, without a database: fair between accounts, within all caps, seat by seat."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from persistence.fleet.connections import ConnectionSlots
from persistence.jobs.account_queues import HostQueue
from persistence.jobs.entries import Entry
from persistence.schema.ids import AccountId, ConnectionId, EntryId, JobId
from persistence.schema.states import EntryStatus
from tasks.assign.fairness import FreeSlots, LiveLoad, assignment_order, quotas

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)

lanes_waiting = st.dictionaries(
    st.tuples(st.sampled_from("abcde"), st.sampled_from(["", "h1", "h2"])), st.integers(1, 12), min_size=1
)
lanes_live = st.dictionaries(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "h1", "h2"])), st.integers(0, 6)
)
caps = st.one_of(st.none(), st.integers(1, 8))


def entry(number: int, account: str, host: str = "", **changes: int) -> Entry:
    """An entry; a later number is a younger one."""
    known = {"priority": 1, "losses": 0} | changes
    return Entry(
        EntryId(f"{number:06}"),
        JobId(f"job-{number}"),
        AccountId(account),
        host,
        EntryStatus.PENDING,
        known["priority"],
        NOON + timedelta(seconds=number),
        0,
        3,
        known["losses"],
        0,
        held=False,
    )


def lane(account: str, host: str = "", seated: datetime | None = None) -> HostQueue:
    """A lane."""
    return HostQueue(AccountId(account), host, seated)


def seated(waiting: dict[tuple[str, str], int], table: LiveLoad, seats: int) -> Counter[tuple[str, str]]:
    """What one round seats."""
    lanes = [lane(*key) for key in waiting]
    wanted = quotas(lanes, table, seats)
    entries = [
        entry(1000 * place + n, *key)
        for place, (key, count) in enumerate(waiting.items())
        for n in range(min(count, wanted.get(key, 0)))
    ]
    taken: Counter[tuple[str, str]] = Counter()
    for chosen in assignment_order(entries, lanes, table):
        if taken.total() == seats:
            break
        table.add(chosen.account_id, chosen.host)
        taken[chosen.account_id, chosen.host] += 1
    return taken


@given(lanes_waiting, lanes_live, st.integers(1, 30), caps, caps)
def test_no_cap_and_no_capacity_is_exceeded(
    waiting: dict[tuple[str, str], int],
    live: dict[tuple[str, str], int],
    seats: int,
    account_cap: int | None,
    host_cap: int | None,
) -> None:
    """Whatever waits and lives; where a cap was exceeded before, nothing is added."""
    before = LiveLoad(Counter(live), account_cap, host_cap)
    after = LiveLoad(Counter(live), account_cap, host_cap)

    taken = seated(waiting, after, seats)

    assert taken.total() <= seats
    for account in {account for account, _ in taken}:
        assert account_cap is None or after.by_account[account] <= account_cap
    for host in {host for _, host in taken if host}:
        assert host_cap is None or after.by_host[host] <= host_cap
    assert after.by_account.total() == before.by_account.total() + taken.total()


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1), st.integers(1, 60))
def test_the_account_with_the_least_gets_its_max_min_share(waiting: dict[str, int], seats: int) -> None:
    """One host, nothing live: who wants more than another gets at least as much, less the last turn."""
    table = LiveLoad(Counter(), None, None)
    left = {(account, ""): count for account, count in waiting.items()}
    served: Counter[str] = Counter()
    while served.total() < seats and left:
        taken = seated(left, table, seats - served.total())
        for (account, _), count in taken.items():
            served[account] += count
            left[account, ""] -= count
        left = {key: count for key, count in left.items() if count}

    assert served.total() == min(seats, sum(waiting.values()))
    for account, wanted in waiting.items():
        if served[account] < wanted:
            assert all(served[other] <= served[account] + 1 for other in waiting)


def test_ties_go_to_the_account_assigned_least_recently() -> None:
    """Never to priority or age."""
    lanes = [lane("a", seated=NOON), lane("b", seated=NOON - timedelta(seconds=1)), lane("c")]
    entries = [entry(1, "a", priority=9), entry(2, "b"), entry(3, "c", priority=-9)]
    table = LiveLoad(Counter(), None, None)

    assert [e.account_id for e in assignment_order(entries, lanes, table)] == ["c", "b", "a"]


def test_a_full_host_does_not_use_its_accounts_turns() -> None:
    """The account's jobs for another host are seated in their place."""
    table = LiveLoad(Counter({("x", "full"): 2}), None, 2)
    lanes = [lane("a", "full"), lane("a", "free")]

    assert quotas(lanes, table, 5) == {("a", "free"): 2}


def test_jobs_go_to_the_least_loaded_connection() -> None:
    """Round about, and no connection beyond its capacity."""
    board = FreeSlots(
        [ConnectionSlots(ConnectionId("one"), 3, 1), ConnectionSlots(ConnectionId("two"), 2, 0)], limit=10
    )

    assert board.free == 4
    assert [board.take(entry(n, "a")) for n in range(5)] == ["two", "one", "two", "one", None]


def test_a_suspect_takes_a_whole_empty_connection_or_waits() -> None:
    """And keeps the least laden one from being filled where none is empty."""
    board = FreeSlots(
        [ConnectionSlots(ConnectionId("empty"), 5, 0), ConnectionSlots(ConnectionId("busy"), 5, 1)], limit=10
    )
    assert board.take(entry(1, "a", losses=2)) == "empty"
    assert board.take(entry(2, "a", losses=2)) is None
    assert board.take(entry(3, "a")) is None
