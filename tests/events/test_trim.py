"""Old events are deleted from the head, and a reader that missed any gets a gap."""

from datetime import timedelta

import pytest

from persistence.events.trim import trim_events
from persistence.unit_of_work import UnitOfWork
from support.processes.workers import wait_until
from support.worlds.readers import append, reader, writer
from support.worlds.world import World

MANY = 10**9
WEEK = timedelta(days=7)


def trim(world: World, limit: int = 1000) -> int:
    """Delete events older than a week, and commit."""
    with world.unit() as uow:
        deleted = trim_events(uow._session, WEEK, limit, MANY).deleted
        uow.commit()
        return deleted


def edge(world: World) -> tuple[int, int]:
    """The edge."""
    row = world.row("SELECT trimmed_xid::text::bigint AS xid, trimmed_id AS id FROM event_edge")
    return row.xid, row.id


def left(world: World) -> list[str]:
    """The jobs of the remaining events."""
    return [job_id for (job_id,) in world.rows("SELECT job_id FROM dispatch_event ORDER BY xid, id")]


@pytest.fixture
def settled(world: World) -> World:
    """A world without a running transaction, whose events can all be read."""
    wait_until(
        lambda: world.scalar("SELECT pg_snapshot_xmin(s) = pg_snapshot_xmax(s) FROM pg_current_snapshot() s"),
        "nothing runs in the cluster",
    )
    return world


def test_old_events_are_deleted_and_the_edge_moves(settled: World, database: str) -> None:
    """The edge is the last deleted event; if none is old, the edge stays."""
    append(database, "a", "b", days_ago=8)
    append(database, "c", days_ago=6)
    last = settled.row("SELECT xid::text::bigint AS xid, id FROM dispatch_event WHERE job_id = 'b'")

    assert (trim(settled), left(settled), edge(settled)) == (2, ["c"], (last.xid, last.id))
    assert (trim(settled), left(settled), edge(settled)) == (0, ["c"], (last.xid, last.id))


def test_a_trim_is_bounded(settled: World, database: str) -> None:
    """The oldest are deleted first, also within one transaction."""
    append(database, *"abcde", days_ago=8)
    assert (trim(settled, 2), left(settled)) == (2, ["c", "d", "e"])
    assert (trim(settled, 2), left(settled)) == (2, ["e"])
    assert (trim(settled, 2), left(settled)) == (1, [])


def test_no_event_after_a_recent_one_is_deleted(settled: World, database: str) -> None:
    """A transaction may begin long before it gets its id, so times are not in the order of the events."""
    append(database, "young", days_ago=6)
    append(database, "old", days_ago=8)
    assert (trim(settled), left(settled), edge(settled)) == (0, ["young", "old"], (0, 0))


def test_unreadable_events_are_not_deleted(settled: World, database: str) -> None:
    """Otherwise an open transaction would commit events before the edge, and they would never be read."""
    with writer(database) as late, reader(database) as web_app:
        late.append("late")
        append(database, "old", days_ago=8)
        assert (trim(settled), edge(settled)) == (0, (0, 0))
        late.commit()
        web_app.until("late", "old")


def test_a_reader_that_missed_trimmed_events_gets_a_gap(settled: World, database: str) -> None:
    """It continues with what is kept; a reader that had read the last trimmed event gets no gap."""
    append(database, "a", "b", days_ago=8)
    with reader(database) as slow, reader(database) as quick:
        quick.until("a", "b")
        slow.cursor = quick.events.page(slow.cursor).items[0].cursor
        append(database, "c")
        trim(settled)

        assert (slow.read(), slow.read()) == (["gap", "c"], [])
        assert (quick.read(), quick.read()) == (["c"], [])


def test_a_reader_from_the_beginning_gets_no_gap(settled: World, database: str) -> None:
    """It starts with what is kept."""
    append(database, "a", days_ago=8)
    append(database, "b")
    trim(settled)
    with reader(database) as web_app:
        assert web_app.read() == ["b"]


def test_the_edge_and_the_rows_change_together(settled: World, database: str) -> None:
    """A trim that is rolled back has changed neither."""
    append(database, "a", days_ago=8)
    with settled.unit() as uow:
        assert trim_events(uow._session, WEEK, 10, MANY).deleted == 1
    assert (left(settled), edge(settled)) == (["a"], (0, 0))


def test_a_concurrent_trim_is_skipped(settled: World, database: str) -> None:
    """The second one does nothing."""
    append(database, "a", "b", days_ago=8)

    def both(first: UnitOfWork) -> tuple[int, int]:
        return trim_events(first._session, WEEK, 1, MANY).deleted, trim(settled)

    with settled.unit() as uow:
        assert both(uow) == (1, 0)
        uow.commit()
    assert left(settled) == ["b"]


def test_events_of_another_clusters_dump_are_deleted(settled: World, database: str) -> None:
    """Their ids are ahead of this cluster, and so is the edge that came with them, which is reset."""
    append(database, "ours")
    settled.rows("INSERT INTO dispatch_event (xid, type, job_id) SELECT '999999999', 'job_updated', 'theirs'")
    settled.rows("UPDATE event_edge SET trimmed_xid = '999999998', trimmed_id = 7")
    with reader(database) as web_app:
        assert web_app.read() == ["ours"]
        trim(settled)
        assert (left(settled), edge(settled)) == (["ours"], (0, 0))
        assert web_app.read() == []
