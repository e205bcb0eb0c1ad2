"""A subscription yields each event once and in order, whatever happens to notifications and connections."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread

import psycopg
import pytest

from persistence.events import subscription as subscriptions
from persistence.events.cursor import BEGINNING, NOW, EventCursor
from persistence.events.stream import EventFilter
from persistence.events.subscription import Subscription
from persistence.exceptions import DatabaseLost, TransientError
from support.processes.workers import free_port, wait_until
from support.worlds.readers import append, named, writer
from support.worlds.world import World

_END = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'crawlyard events'
"""


class Follower:
    """A subscription in its own thread, and what it has yielded."""

    def __init__(self, subscription: Subscription, lost: list[TransientError]) -> None:
        self.subscription = subscription
        self.lost = lost
        self.got: list[str | None] = []
        self.failure: Exception | None = None
        self.thread = Thread(target=self._follow)

    def has_got(self, *job_ids: str) -> None:
        """Wait for exactly these events."""
        wait_until(lambda: len(self.got) >= len(job_ids) or self.failure, f"{job_ids} come")
        assert (self.got, self.failure) == (list(job_ids), None)

    def _follow(self) -> None:
        try:
            for item in self.subscription:
                self.got.append(named(item))
        except Exception as error:
            self.failure = error


@contextmanager
def following(
    point: EventCursor | str = BEGINNING, matching: EventFilter | None = None
) -> Iterator[Follower]:
    """A follower that has started to listen."""
    lost: list[TransientError] = []
    with Subscription(point, matching, lost=lost.append) as subscription:
        follower = Follower(subscription, lost)
        follower.thread.start()
        wait_until(lambda: subscription.cursor or follower.failure, "the first connection")
        yield follower
        subscription.close()
        follower.thread.join(10)
        assert not follower.thread.is_alive()


@pytest.fixture(autouse=True)
def polls_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll often, so that tests are fast."""
    monkeypatch.setattr(subscriptions, "_POLL_S", 0.2)


@pytest.fixture
def never_polls(polls_often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll too rarely for any test."""
    monkeypatch.setattr(subscriptions, "_POLL_S", 600.0)


@pytest.mark.usefixtures("never_polls")
def test_a_commit_wakes_the_reader(world: World) -> None:
    """The commit notifies the reader; polling is too rare to explain it."""
    with following(NOW, EventFilter(types=("job_created",))) as follower:
        ids = world.jobs(1)
        follower.has_got(*ids)
        ids += world.jobs(1)
        follower.has_got(*ids)


@pytest.mark.usefixtures("never_polls")
def test_events_held_back_by_a_long_transaction_arrive_when_it_ends(database: str) -> None:
    """The end of that transaction sends no notification."""
    with following() as follower, writer(database) as first, writer(database) as second:
        first.append("a")
        second.append("b")
        second.notify()
        second.commit()
        wait_until(lambda: follower.subscription._pause._now > 0.1, "the follower polls more and more rarely")
        assert follower.got == []
        first.commit()
        follower.has_got("a", "b")


def test_a_lost_notification_only_causes_a_delay(database: str) -> None:
    """The table is also polled; here no notification was sent at all."""
    with following() as follower:
        append(database, "a")
        follower.has_got("a")
        append(database, "b", "c")
        follower.has_got("a", "b", "c")


def test_a_lost_connection_is_restored_without_loss_or_repetition(database: str) -> None:
    """The server ends it three times, with events before, between and after."""
    expected = []
    with following() as follower, psycopg.connect(database, autocommit=True) as admin:
        for round_ in "abc":
            append(database, f"{round_}1", f"{round_}2")
            expected += [f"{round_}1", f"{round_}2"]
            admin.execute("NOTIFY crawlyard_event")
            follower.has_got(*expected)
            assert len(admin.execute(_END).fetchall()) == 1
            append(database, f"{round_}3")
            expected.append(f"{round_}3")
            follower.has_got(*expected)
        assert [type(error) for error in follower.lost] == [DatabaseLost] * 3


def test_events_trimmed_before_they_were_read_yield_a_gap(world: World, database: str) -> None:
    """The gap is yielded once, in its place, before the other events."""
    with following() as follower:
        append(database, "a")
        follower.has_got("a")
        world.rows("UPDATE event_edge SET trimmed_xid = pg_current_xact_id(), trimmed_id = 1")
        append(database, "b")
        follower.has_got("a", "gap", "b")


def test_the_subscription_cursor_advances_past_filtered_events(database: str) -> None:
    """A reader that stores the cursor does not read the filtered events again."""
    with following(BEGINNING, EventFilter(account_id="mine")) as follower:
        start = follower.subscription.cursor
        append(database, "a", account="other")
        wait_until(lambda: follower.subscription.cursor != start, "the cursor moves")
        follower.has_got()


def test_the_first_connection_must_succeed(database: str) -> None:
    """A wrong URL raises at once."""
    with (
        pytest.raises(DatabaseLost),
        Subscription(NOW, url=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing") as nowhere,
    ):
        list(nowhere)


def test_a_subscription_ends_after_its_duration(database: str) -> None:
    """It yields what came, ends before the next poll, and leaves no session."""
    append(database, "a")
    began = time.monotonic()
    with Subscription(BEGINNING, within=timedelta(seconds=0.5)) as subscription:
        assert [named(item) for item in subscription] == ["a"]
    assert 0.5 <= time.monotonic() - began < 3
    assert sessions(database) == 0


def test_a_closed_subscription_leaves_no_session(database: str) -> None:
    """Also in the middle of a page; reading continues from its cursor."""
    append(database, "a", "b", "c")
    with Subscription(BEGINNING) as subscription:
        for item in subscription:
            assert named(item) == "a"
            break
    cursor = subscription.cursor
    assert cursor is not None
    wait_until(lambda: sessions(database) == 0, "its session has ended")
    with Subscription(cursor) as subscription:
        assert [named(item) for item in subscription.so_far()] == ["b", "c"]


def sessions(database: str) -> int:
    """The number of sessions of subscriptions."""
    with psycopg.connect(database) as connection:
        ((count,),) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crawlyard events'"
        ).fetchall()
    return int(count)


def test_the_documented_import_of_0_4_still_works() -> None:
    """A program that follows events by the former module gets the same class."""
    from persistence import subscription as former  # noqa: PLC0415 - the import is what is tested

    assert former.Subscription is Subscription
