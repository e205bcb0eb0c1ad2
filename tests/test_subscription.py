"""Following events: woken by a bell, never relying on it, and without loss or repetition when the connection goes."""

from collections.abc import Iterator
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from persistence.event_cursor import BEGINNING, NOW
from persistence.event_stream import Event, EventFilter, Gap
from persistence.exceptions import DatabaseLost
from persistence.schema.vocabulary import EventType
from persistence.subscription import Subscription
from support.workers import free_port, until
from support.world import World


class Follower:
    """A subscription in a thread; what it gives is put in line."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self._given: Queue[Event | Gap] = Queue()
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        for item in self.subscription:
            self._given.put(item)

    def next(self) -> str | None:
        """The job of the next event."""
        item = self._given.get(timeout=10)
        return item.job_id if isinstance(item, Event) else "gap"

    @property
    def is_empty(self) -> bool:
        """Whether nothing was given that was not taken."""
        return self._given.empty()

    def end(self) -> None:
        """Close it, and wait for its end."""
        self.subscription.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def follower(world: World) -> Iterator[Follower]:
    """Somebody who follows all events from now on, and is listening."""
    follower = Follower(Subscription(NOW))
    until(lambda: listeners(world), "somebody listens")
    yield follower
    follower.end()


def listeners(world: World) -> list[Any]:
    """The sessions that follow events and wait."""
    return world.rows(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'crawlyard events' AND state = 'idle'"
        " AND datname = current_database()"
    )


def happened(world: World, *job_ids: str) -> None:
    """Let something happen."""
    with world.unit() as uow:
        for job_id in job_ids:
            uow.events.add(EventType.JOB_UPDATED, job_id=job_id, account_id="acc", status="running")
        uow.commit()


def test_it_is_woken(world: World, follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before it would look by itself."""
    monkeypatch.setattr("persistence.subscription._POLL_S", 1000.0)
    happened(world, "a")
    assert follower.next() == "a"

    happened(world, "b", "c")

    assert [follower.next(), follower.next()] == ["b", "c"]


def test_a_lost_bell_costs_time_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks by itself now and then."""
    monkeypatch.setattr("persistence.subscription._POLL_S", 0.1)
    follower = Follower(Subscription(NOW))
    until(lambda: listeners(world), "somebody listens")

    world.rows("INSERT INTO dispatch_event (type, job_id) VALUES ('job_updated', 'quiet')")

    assert follower.next() == "quiet"
    follower.end()


def test_what_a_running_transaction_holds_back_comes_at_its_end(world: World, follower: Follower) -> None:
    """Its end rings no bell; nothing comes before, and nothing comes twice."""
    with world.unit() as long:
        long.events.add(EventType.JOB_UPDATED, job_id="long")
        long.events.write()
        happened(world, "short")
        happened(world, "shorter")
        assert follower.is_empty

    assert [follower.next(), follower.next()] == ["short", "shorter"]
    assert follower.is_empty


def test_a_connection_that_is_lost_is_made_again(world: World) -> None:
    """Nothing is missed in between, and nothing comes twice; whoever wants to know is told."""
    lost: list[str] = []
    follower = Follower(Subscription(NOW, lost=lambda error: lost.append(type(error).__name__)))
    until(lambda: listeners(world), "somebody listens")
    happened(world, "before")
    assert follower.next() == "before"

    world.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crawlyard events'"
    )
    happened(world, "between")
    assert follower.next() == "between"
    happened(world, "after")
    assert follower.next() == "after"

    assert lost == ["DatabaseLost"]
    assert follower.is_empty
    follower.end()


def test_it_is_told_what_was_trimmed_before_its_eyes(world: World) -> None:
    """One that was away for too long reads on behind the gap."""
    happened(world, "a", "b")
    with Subscription(BEGINNING) as subscription:
        first = next(iter(subscription))
    world.rows("DELETE FROM dispatch_event")
    world.rows("UPDATE event_edge SET trimmed_xid = pg_current_xact_id(), trimmed_id = 10")
    happened(world, "c")

    follower = Follower(Subscription(first.cursor))

    assert [follower.next(), follower.next()] == ["gap", "c"]
    follower.end()


def test_it_filters_and_resumes_from_its_cursor(world: World) -> None:
    """The cursor is where it stands."""
    follower = Follower(Subscription(BEGINNING, EventFilter(job_ids=("b", "d"))))
    happened(world, *"abc")
    assert follower.next() == "b"
    follower.end()
    cursor = follower.subscription.cursor
    assert cursor is not None

    happened(world, "d")
    again = Follower(Subscription(cursor, EventFilter(job_ids=("b", "d"))))
    assert again.next() == "d"
    again.end()


def test_a_database_that_is_not_there_at_first_is_said_at_once(world: World) -> None:
    """Only one that was there is waited for."""
    subscription = Subscription(NOW, url=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")

    with pytest.raises(DatabaseLost):
        next(iter(subscription))
