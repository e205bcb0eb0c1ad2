"""The arithmetic of the pass, without a database: fair between accounts, within all caps, seat by seat."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from persistence.fleet.connections import Seats
from persistence.jobs.account_queues import Lane
from persistence.jobs.entries import Entry
from persistence.schema.ids import AccountId, ConnectionId, EntryId, JobId
from persistence.schema.states import QueueStatus
from tasks.assign.fairness import Board, Table, in_turn, quotas

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
        QueueStatus.PENDING,
        known["priority"],
        NOON + timedelta(seconds=number),
        0,
        3,
        known["losses"],
        0,
        held=False,
    )


def lane(account: str, host: str = "", seated: datetime | None = None) -> Lane:
    """A lane."""
    return Lane(AccountId(account), host, seated)


def seated(waiting: dict[tuple[str, str], int], table: Table, seats: int) -> Counter[tuple[str, str]]:
    """What one round seats."""
    lanes = [lane(*key) for key in waiting]
    wanted = quotas(lanes, table, seats)
    entries = [
        entry(1000 * place + n, *key)
        for place, (key, count) in enumerate(waiting.items())
        for n in range(min(count, wanted.get(key, 0)))
    ]
    taken: Counter[tuple[str, str]] = Counter()
    for chosen in in_turn(entries, lanes, table):
        if taken.total() == seats:
            break
        table.seat(chosen.account_id, chosen.host)
        taken[chosen.account_id, chosen.host] += 1
    return taken


@given(lanes_waiting, lanes_live, st.integers(1, 30), caps, caps)
def test_no_cap_is_exceeded_and_no_seat_too_many_is_filled(
    waiting: dict[tuple[str, str], int],
    live: dict[tuple[str, str], int],
    seats: int,
    account_cap: int | None,
    host_cap: int | None,
) -> None:
    """Whatever waits and lives; where a cap was exceeded before, nothing is added."""
    before = Table(Counter(live), account_cap, host_cap)
    after = Table(Counter(live), account_cap, host_cap)

    taken = seated(waiting, after, seats)

    assert taken.total() <= seats
    for account in {account for account, _ in taken}:
        assert account_cap is None or after.by_account[account] <= account_cap
    for host in {host for _, host in taken if host}:
        assert host_cap is None or after.by_host[host] <= host_cap
    assert after.by_account.total() == before.by_account.total() + taken.total()


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1), st.integers(1, 60))
def test_the_worst_served_account_gets_its_max_min_share(waiting: dict[str, int], seats: int) -> None:
    """One host, nothing live: who wants more than another gets at least as much, less the last turn."""
    table = Table(Counter(), None, None)
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


def test_ties_go_to_the_account_seated_least_recently() -> None:
    """Never to priority or age."""
    lanes = [lane("a", seated=NOON), lane("b", seated=NOON - timedelta(seconds=1)), lane("c")]
    entries = [entry(1, "a", priority=9), entry(2, "b"), entry(3, "c", priority=-9)]
    table = Table(Counter(), None, None)

    assert [e.account_id for e in in_turn(entries, lanes, table)] == ["c", "b", "a"]


def test_a_full_host_takes_no_turn_of_its_account() -> None:
    """The account's jobs for another host are seated in their place."""
    table = Table(Counter({("x", "full"): 2}), None, 2)
    lanes = [lane("a", "full"), lane("a", "free")]

    assert quotas(lanes, table, 5) == {("a", "free"): 2}


def test_seats_are_dealt_to_the_least_laden_connection() -> None:
    """Round about, and no connection beyond its capacity."""
    board = Board([Seats(ConnectionId("one"), 3, 1), Seats(ConnectionId("two"), 2, 0)], limit=10)

    assert board.free == 4
    assert [board.seat(entry(n, "a")) for n in range(5)] == ["two", "one", "two", "one", None]


def test_a_suspect_takes_an_empty_connection_whole_or_waits() -> None:
    """And keeps the least laden one from being filled where none is empty."""
    board = Board([Seats(ConnectionId("empty"), 5, 0), Seats(ConnectionId("busy"), 5, 1)], limit=10)
    assert board.seat(entry(1, "a", losses=2)) == "empty"
    assert board.seat(entry(2, "a", losses=2)) is None
    assert board.seat(entry(3, "a")) is None
