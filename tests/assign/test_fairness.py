"""The arithmetic of the round, without a database: fair between accounts, and within all caps."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from persistence.fleet.slots import ConnectionSlots
from persistence.jobs.account_queues import HostQueue
from persistence.jobs.entries import Entry
from persistence.schema.ids import AccountId, ConnectionId, EntryId, JobId
from persistence.schema.states import EntryStatus
from tasks.assign.fairness import FreeSlots, LiveLoad, assignment_order, quotas

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)

waiting_by_queue = st.dictionaries(
    st.tuples(st.sampled_from("abcde"), st.sampled_from(["", "h1", "h2"])), st.integers(1, 12), min_size=1
)
live_by_queue = st.dictionaries(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "h1", "h2"])), st.integers(0, 6)
)
caps = st.one_of(st.none(), st.integers(1, 8))


def entry(number: int, account: str, host: str = "", **changes: int) -> Entry:
    """An entry; a higher number is younger."""
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


def queue(account: str, host: str = "", served: datetime | None = None) -> HostQueue:
    """A host queue, and when its account was last served."""
    return HostQueue(AccountId(account), host, served)


def assign(waiting: dict[tuple[str, str], int], load: LiveLoad, slots: int) -> Counter[tuple[str, str]]:
    """What one claim assigns, by host queue."""
    queues = [queue(*key) for key in waiting]
    wanted = quotas(queues, load, slots)
    entries = [
        entry(1000 * place + n, *key)
        for place, (key, count) in enumerate(waiting.items())
        for n in range(min(count, wanted.get(key, 0)))
    ]
    assigned: Counter[tuple[str, str]] = Counter()
    for chosen in assignment_order(entries, queues, load):
        if assigned.total() == slots:
            break
        load.add(chosen.account_id, chosen.host)
        assigned[chosen.account_id, chosen.host] += 1
    return assigned


@given(waiting_by_queue, live_by_queue, st.integers(1, 30), caps, caps)
def test_no_cap_and_no_capacity_is_exceeded(
    waiting: dict[tuple[str, str], int],
    live: dict[tuple[str, str], int],
    slots: int,
    account_cap: int | None,
    host_cap: int | None,
) -> None:
    """No mix of waiting and live jobs exceeds a cap; what exceeds it already gets nothing more."""
    before = LiveLoad(Counter(live), account_cap, host_cap)
    after = LiveLoad(Counter(live), account_cap, host_cap)

    assigned = assign(waiting, after, slots)

    assert assigned.total() <= slots
    for account in {account for account, _ in assigned}:
        assert account_cap is None or after.by_account[account] <= account_cap
    for host in {host for _, host in assigned if host}:
        assert host_cap is None or after.by_host[host] <= host_cap
    assert after.by_account.total() == before.by_account.total() + assigned.total()


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1), st.integers(1, 60))
def test_the_account_with_the_least_gets_its_max_min_share(waiting: dict[str, int], slots: int) -> None:
    """With one host and nothing live, an account that wants more gets at least as much, less the last slot."""
    load = LiveLoad(Counter(), None, None)
    left = {(account, ""): count for account, count in waiting.items()}
    served: Counter[str] = Counter()
    while served.total() < slots and left:
        assigned = assign(left, load, slots - served.total())
        for (account, _), count in assigned.items():
            served[account] += count
            left[account, ""] -= count
        left = {key: count for key, count in left.items() if count}

    assert served.total() == min(slots, sum(waiting.values()))
    for account, wanted in waiting.items():
        if served[account] < wanted:
            assert all(served[other] <= served[account] + 1 for other in waiting)


def test_ties_go_to_the_account_assigned_least_recently() -> None:
    """Neither priority nor age decides between accounts."""
    queues = [queue("a", served=NOON), queue("b", served=NOON - timedelta(seconds=1)), queue("c")]
    entries = [entry(1, "a", priority=9), entry(2, "b"), entry(3, "c", priority=-9)]
    load = LiveLoad(Counter(), None, None)

    assert [e.account_id for e in assignment_order(entries, queues, load)] == ["c", "b", "a"]


def test_a_full_host_does_not_use_its_accounts_turns() -> None:
    """The jobs of the account for another host are assigned instead."""
    load = LiveLoad(Counter({("x", "full"): 2}), None, 2)
    queues = [queue("a", "full"), queue("a", "free")]

    assert quotas(queues, load, 5) == {("a", "free"): 2}


def test_jobs_go_to_the_least_loaded_connection() -> None:
    """They alternate between connections, and exceed no capacity."""
    free_slots = FreeSlots(
        [ConnectionSlots(ConnectionId("one"), 3, 1), ConnectionSlots(ConnectionId("two"), 2, 0)], limit=10
    )

    assert free_slots.free == 4
    assert [free_slots.take(entry(n, "a")) for n in range(5)] == ["two", "one", "two", "one", None]


def test_a_suspect_takes_a_whole_empty_connection_or_waits() -> None:
    """If no connection is empty, the least used one is kept from being filled."""
    free_slots = FreeSlots(
        [ConnectionSlots(ConnectionId("empty"), 5, 0), ConnectionSlots(ConnectionId("busy"), 5, 1)], limit=10
    )
    assert free_slots.take(entry(1, "a", losses=2)) == "empty"
    assert free_slots.take(entry(2, "a", losses=2)) is None
    assert free_slots.take(entry(3, "a")) is None
