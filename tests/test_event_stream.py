"""Reading events from a cursor: each once, in order, and none missed that commits late."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from persistence.event_cursor import BEGINNING, NOW, EventCursor, starting_point
from persistence.event_stream import Event, EventFilter, EventReader, Gap
from persistence.exceptions import IllegalRequestError
from persistence.schema.vocabulary import EventType
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from support.world import World


@pytest.fixture
def connection(world: World) -> Iterator[psycopg.Connection[Any]]:
    """A reader's connection."""
    with psycopg.connect(settings().psycopg_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def reader(connection: psycopg.Connection[Any]) -> EventReader:
    """A reader of everything."""
    return EventReader(connection)


def told(items: Any) -> list[str | None]:
    """The jobs that events are about."""
    items = list(items)
    assert all(isinstance(item, Event) for item in items)
    return [item.job_id for item in items]


def append(
    uow: UnitOfWork, *job_ids: str, account: str = "acc", kind: EventType = EventType.JOB_UPDATED
) -> None:
    """Append an event for each of these jobs."""
    for job_id in job_ids:
        uow.events.add(kind, job_id=job_id, account_id=account, status="running")


def happened(world: World, *job_ids: str, **changes: Any) -> None:
    """Append events in a transaction of their own."""
    with world.unit() as uow:
        append(uow, *job_ids, **changes)
        uow.commit()


@contextmanager
def unfinished(world: World, *job_ids: str) -> Iterator[UnitOfWork]:
    """A transaction that has appended events, and has yet to commit."""
    with world.unit() as uow:
        append(uow, *job_ids)
        uow.events.write()
        yield uow


def test_events_are_read_in_order_from_a_cursor(world: World, reader: EventReader) -> None:
    """From the beginning, from now, and from what came with any of them."""
    happened(world, "a", "b")
    now = reader.start(NOW)
    happened(world, "c")

    all_ = list(reader.read(reader.start(BEGINNING)))
    assert told(all_) == ["a", "b", "c"]
    assert told(reader.read(now)) == ["c"]
    assert told(reader.read(all_[0].cursor)) == ["b", "c"]
    assert list(reader.read(all_[-1].cursor)) == []
    assert isinstance(all_[0], Event)
    assert (all_[0].type, all_[0].account_id, all_[0].payload) == (
        "job_updated",
        "acc",
        {"status": "running"},
    )


def test_transactions_that_commit_out_of_order_are_read_in_order(world: World, reader: EventReader) -> None:
    """What has committed waits for what began before it and still runs; then both are read, each once."""
    cursor = reader.start(BEGINNING)
    with unfinished(world, "early") as early:
        with unfinished(world, "late") as late:
            late.commit()
        page = reader.page(cursor)
        assert (page.items, page.is_held_back) == ([], True)
        happened(world, "latest")
        assert reader.page(page.cursor).items == []
        early.commit()

    page = reader.page(page.cursor)
    assert told(page.items) == ["early", "late", "latest"]
    assert not page.is_held_back
    assert reader.page(page.cursor).items == []


def test_what_was_rolled_back_holds_nobody_up(world: World, reader: EventReader) -> None:
    """Only what committed is read."""
    cursor = reader.start(BEGINNING)
    with unfinished(world, "never"):
        happened(world, "after")
        assert reader.page(cursor).items == []

    assert told(reader.read(cursor)) == ["after"]


def test_now_does_not_skip_what_is_held_back(world: World, reader: EventReader) -> None:
    """It has committed, but nobody could read it yet."""
    with unfinished(world, "early") as early:
        happened(world, "late")
        cursor = reader.start(NOW)
        early.commit()

    assert told(reader.read(cursor)) == ["early", "late"]


@pytest.mark.parametrize(
    ("matching", "expected"),
    [
        (EventFilter(account_id="other"), ["b"]),
        (EventFilter(job_ids=("a", "c")), ["a", "c"]),
        (EventFilter(types=("job_deleted", "job_created")), ["c"]),
        (EventFilter(account_id="acc", job_ids=("b", "c"), types=("job_deleted",)), ["c"]),
        (EventFilter(types=("error_logged",)), []),
    ],
)
def test_filters_apply_together(
    world: World, connection: psycopg.Connection[Any], matching: EventFilter, expected: list[str]
) -> None:
    """By account, jobs and types; the cursor passes what is not wanted."""
    happened(world, "a")
    happened(world, "b", account="other")
    happened(world, "c", kind=EventType.JOB_DELETED)
    reader = EventReader(connection, matching, page_rows=10)

    page = reader.page(reader.start(BEGINNING))

    assert told(page.items) == expected
    assert page.cursor == EventReader(connection).start(NOW)


def test_a_page_looks_at_so_many_rows(world: World, connection: psycopg.Connection[Any]) -> None:
    """Whether they are wanted or not; a reader goes on until there is no more."""
    happened(world, *"abcde")
    happened(world, "f", account="other")
    reader = EventReader(connection, EventFilter(account_id="other"), page_rows=2)

    first = reader.page(reader.start(BEGINNING))

    assert (first.items, first.is_full) == ([], True)
    assert told(reader.read(first.cursor)) == ["f"]


def trim(world: World, limit: int = 1000) -> int:
    """Trim what is older than seven days."""
    with world.unit() as uow:
        deleted = uow.retention.delete_old(settings(), limit)["dispatch_event"]
        uow.commit()
    return deleted


def age(world: World, *job_ids: str) -> None:
    """Let the events of these jobs be eight days old."""
    world.rows("UPDATE dispatch_event SET created_at = now() - interval '8 days' WHERE job_id = ANY (:ids)",
               ids=list(job_ids))  # fmt: skip


def test_a_cursor_behind_the_trimmed_edge_is_told(world: World, reader: EventReader) -> None:
    """Something was missed; reading goes on after the edge."""
    happened(world, *"abcd")
    begun, *_ = reader.read(reader.start(BEGINNING))
    age(world, "a", "b")

    assert trim(world) == 2
    gap, *rest = reader.read(begun.cursor)

    assert isinstance(gap, Gap)
    assert told(rest) == ["c", "d"]
    assert told(reader.read(gap.cursor)) == ["c", "d"]
    assert told(reader.read(reader.start(BEGINNING))) == ["c", "d"]


def test_a_cursor_at_the_edge_has_missed_nothing(world: World, reader: EventReader) -> None:
    """It has read the last one that was trimmed."""
    happened(world, *"abc")
    events = list(reader.read(reader.start(BEGINNING)))
    age(world, "a", "b")
    trim(world)

    assert told(reader.read(events[1].cursor)) == ["c"]


def test_events_go_from_the_head_alone(world: World, reader: EventReader) -> None:
    """An old one behind a young one stays; at most so many go at once."""
    happened(world, *"abcd")
    age(world, "a", "b", "d")

    assert [trim(world, limit=1), trim(world, limit=1), trim(world, limit=1)] == [1, 1, 0]
    assert told(reader.read(reader.start(BEGINNING))) == ["c", "d"]


def test_what_commits_late_is_not_taken_for_trimmed(world: World, reader: EventReader) -> None:
    """The edge never moves past a transaction that still runs."""
    with unfinished(world, "early") as early:
        happened(world, "late")
        age(world, "late")
        assert trim(world) == 0
        cursor = reader.start(BEGINNING)
        early.commit()

    assert told(reader.read(cursor)) == ["early", "late"]


@pytest.mark.parametrize("change", ["cluster", "ahead"])
def test_a_cursor_that_is_not_of_this_cluster_is_told(world: World, reader: EventReader, change: str) -> None:
    """Another system identifier, or a transaction that there has not been yet: the cluster was set back."""
    happened(world, "a")
    here = reader.start(NOW)
    wrong = (
        EventCursor("7", here.xid, here.id) if change == "cluster" else EventCursor(here.cluster, 2**62, 0)
    )

    gap, event = reader.read(wrong)

    assert isinstance(gap, Gap)
    assert told([event]) == ["a"]


def test_events_of_a_restored_dump_are_deleted(world: World, reader: EventReader) -> None:
    """Their transactions are the other cluster's: they would be read when this one has come so far."""
    happened(world, "a")
    world.rows("UPDATE dispatch_event SET xid = '9000000000'::xid8")
    world.rows("UPDATE event_edge SET trimmed_xid = '8000000000'::xid8")

    trim(world)
    happened(world, "b")

    assert told(reader.read(reader.start(BEGINNING))) == ["b"]


def test_the_sql_of_the_contract_reads_the_same(world: World, connection: psycopg.Connection[Any]) -> None:
    """For readers in other languages: pages, and what is a gap."""
    page = (Path(__file__).parents[1] / "docs" / "contract.md").read_text(encoding="utf-8")
    next_page, beginning = re.findall(
        r"```sql\n-- (?:the next page|where all).*?\n(.*?);\n```", page, re.DOTALL
    )
    next_page = (
        next_page.replace("%", "%%").replace("$1", "%(c)s").replace("$2", "%(x)s").replace("$3", "%(i)s")
    )
    happened(world, *"abc")

    cluster, xid, id_ = connection.execute(beginning).fetchone() or ()
    rows = connection.execute(next_page, {"c": cluster, "x": xid, "i": id_}).fetchall()
    assert [(row[0], row[4]) for row in rows] == [(False, "a"), (False, "b"), (False, "c")]
    assert [
        row[4] for row in connection.execute(next_page, {"c": cluster, "x": rows[0][1], "i": rows[0][2]})
    ] == ["b", "c"]
    end = {"c": cluster, "x": rows[2][1], "i": rows[2][2]}
    assert [row[:2] for row in connection.execute(next_page, end)] == [(False, None)]
    assert [row[:2] for row in connection.execute(next_page, end | {"c": "7"})] == [(True, None)]
    age(world, "a", "b")
    trim(world)
    assert [row[:2] for row in connection.execute(next_page, end | {"x": xid, "i": id_})] == [(True, None)]


def test_a_cursor_is_its_text() -> None:
    """And nothing else is one."""
    cursor = EventCursor("-7", 2**64 - 1, 5)

    assert starting_point(str(cursor)) == cursor
    assert (starting_point("now"), starting_point("beginning")) == (NOW, BEGINNING)
    for text in ("", "7", "7:1", "a:1:1", "7:-1:1", f"7:{2**64}:1", f"7:1:{2**63}"):
        with pytest.raises(IllegalRequestError):
            starting_point(text)


def test_a_reader_needs_no_rights_but_to_read(world: World, connection: psycopg.Connection[Any]) -> None:
    """The web app's role may be any."""
    happened(world, "a")
    connection.execute("CREATE ROLE some_reader")
    try:
        connection.execute("GRANT SELECT ON dispatch_event, event_edge TO some_reader")
        connection.execute("SET ROLE some_reader")
        reader = EventReader(connection)
        assert told(reader.read(reader.start(BEGINNING))) == ["a"]
    finally:
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY some_reader")
        connection.execute("DROP ROLE some_reader")


def test_a_page_is_read_by_the_primary_key(world: World, connection: psycopg.Connection[Any]) -> None:
    """Whatever is kept: a page at the end of 20,000 events reads some pages of the table."""
    world.rows(
        "INSERT INTO dispatch_event (xid, type, job_id)"
        " SELECT '3', 'job_updated', n::text FROM generate_series(1, 20000) n"
    )
    behind = world.one("SELECT max(id) - 100 FROM dispatch_event")
    cluster = EventReader(connection).start(BEGINNING).cluster
    from persistence import event_stream  # noqa: PLC0415

    plan = connection.execute(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + event_stream._PAGE,
        {
            "cluster": cluster,
            "xid": "3",
            "id": behind,
            "account": None,
            "jobs": None,
            "types": None,
            "limit": 1000,
        },
    ).fetchone()

    assert plan is not None
    assert plan[0][0]["Plan"]["Shared Hit Blocks"] + plan[0][0]["Plan"]["Shared Read Blocks"] < 40
