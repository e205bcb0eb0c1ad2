"""Readers get each event once whatever the order of commits, and a gap if they missed any."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from persistence.events import stream
from persistence.events.cursor import BEGINNING, NOW, EventCursor, starting_point
from persistence.events.stream import EventFilter
from persistence.exceptions import IllegalRequestError
from support.worlds.readers import append, reader, writer
from support.worlds.world import World


def contract_sql() -> str:
    """The statement in the contract for readers in other languages."""
    text = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
    (statement,) = re.findall(r"^```sql\n(-- \$1 cluster.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(statement)


def test_an_event_that_commits_late_is_read_in_order(database: str) -> None:
    """Events of a transaction are not read before an older transaction has ended."""
    with writer(database) as first, writer(database) as second, reader(database) as web_app:
        first.append("a1")
        second.append("b1", "b2")
        first.append("a2")
        second.commit()

        page = web_app.events.page(web_app.cursor)
        assert (page.items, page.cursor, page.is_held_back) == ([], web_app.cursor, True)

        first.commit()
        web_app.until("a1", "a2", "b1", "b2")
        assert web_app.read() == []


def test_a_rolled_back_transaction_does_not_hold_events_back_for_ever(database: str) -> None:
    """Its events are not read, and the events that it held back are."""
    with reader(database) as web_app:
        with writer(database) as first:
            first.append("a")
            append(database, "b")
            assert web_app.read() == []
        web_app.until("b")


def test_an_event_committed_between_two_reads_is_read_by_the_second(database: str) -> None:
    """Events of overlapping transactions are read once, in the order of the first writes."""
    with (
        writer(database) as first,
        writer(database) as second,
        writer(database) as third,
        reader(database) as web_app,
    ):
        first.append("a")
        second.append("b")
        first.commit()
        web_app.until("a")
        third.append("c")
        third.commit()
        assert web_app.read() == []
        second.commit()
        web_app.until("b", "c")


def test_an_event_holds_its_payload_and_its_cursor(world: World, database: str) -> None:
    """Every column is read, and reading continues after the text of its cursor."""
    (job_id,) = world.jobs(1)
    append(database, "next")
    with reader(database) as web_app:
        first, *_ = events = list(web_app.events.read(web_app.cursor))
        row = world.row("SELECT xid::text, * FROM dispatch_event WHERE job_id = :id", id=job_id)

        assert (first.type, first.job_id, first.account_id, first.connection_id) == (
            "job_created", job_id, "acc", None,
        )  # fmt: skip
        assert (first.payload, first.created_at) == ({"existing": False}, row.created_at)
        assert (str(first.cursor.xid), first.cursor.id) == (row.xid, row.id)
        assert [event.job_id for event in events] == [job_id, "next"]
        web_app.start(starting_point(str(first.cursor)))
        assert web_app.read() == ["next"]


FILTERS = {
    EventFilter(): ["a", "b", "c", "d"],
    EventFilter(account_id="x"): ["a", "b"],
    EventFilter(job_ids=("b", "d", "z")): ["b", "d"],
    EventFilter(types=("job_deleted", "error_logged")): ["b", "c"],
    EventFilter(account_id="x", job_ids=("a", "d"), types=("job_updated",)): ["a"],
    EventFilter(job_ids=()): [],
}


@pytest.mark.parametrize("matching", FILTERS, ids=str)
def test_a_filter_combines_its_conditions(database: str, matching: EventFilter) -> None:
    """Account, jobs and types; no condition matches everything, an empty list nothing."""
    append(database, "a", account="x")
    append(database, "b", account="x", kind="job_deleted")
    append(database, "c", account="y", kind="error_logged")
    append(database, "d")
    with reader(database) as everything, reader(database, matching) as web_app:
        everything.until("a", "b", "c", "d")
        assert web_app.read() == FILTERS[matching]


def test_the_cursor_advances_past_filtered_events(database: str) -> None:
    """Rows that do not match are read once: the next page begins after them."""
    append(database, *"abcdefg", account="other")
    with reader(database) as everything, reader(database, EventFilter(account_id="mine"), 3) as web_app:
        everything.until(*"abcdefg")
        pages = [web_app.events.page(web_app.cursor)]
        while pages[-1].is_full:
            pages.append(web_app.events.page(pages[-1].cursor))

        assert [(page.items, page.is_full) for page in pages] == [([], True), ([], True), ([], False)]
        assert pages[-1].cursor == everything.cursor


def test_a_page_reads_a_bounded_number_of_rows(database: str) -> None:
    """The next page continues, also within one transaction."""
    append(database, *"abcde")
    with reader(database) as everything, reader(database, page_rows=2) as web_app:
        everything.until(*"abcde")
        page = web_app.events.page(web_app.cursor)
        assert ([event.job_id for event in page.items], page.is_full) == (["a", "b"], True)
        assert web_app.read() == list("abcde")


def test_now_yields_only_new_events(database: str) -> None:
    """Committed events are not read, but open ones and those they hold back are."""
    append(database, "old")
    with writer(database) as before, reader(database) as web_app:
        web_app.until("old")
        before.append("open")
        append(database, "waiting")
        web_app.start(NOW)
        append(database, "new")
        assert web_app.read() == []
        before.commit()
        web_app.until("open", "waiting", "new")


def test_now_includes_events_that_commit_late(database: str) -> None:
    """A reader that starts now gets an event that commits later, although later transactions have committed."""
    append(database, "old")
    with writer(database) as late, reader(database) as web_app:
        late.append("late")
        append(database, "early")
        web_app.start(NOW)
        late.commit()
        web_app.until("late", "early")


def test_now_equals_the_beginning_in_an_empty_table(database: str) -> None:
    """There is nothing to skip."""
    with reader(database) as web_app:
        web_app.start(NOW)
        append(database, "a")
        web_app.until("a")


def test_a_cursor_of_another_cluster_yields_a_gap(database: str) -> None:
    """Its transaction ids mean nothing here, so everything that is kept is read."""
    append(database, "a", "b")
    with reader(database) as web_app:
        web_app.until("a", "b")
        web_app.cursor = EventCursor("1234", web_app.cursor.xid, web_app.cursor.id)
        assert web_app.read() == ["gap", "a", "b"]
        assert web_app.read() == []


def test_a_cursor_ahead_of_the_cluster_yields_a_gap(database: str) -> None:
    """The cluster was restored to an earlier state. The last event itself is not ahead."""
    append(database, "a")
    with reader(database) as web_app:
        web_app.until("a")
        assert web_app.read() == []
        with psycopg.connect(database) as connection:
            ((ahead,),) = connection.execute(
                "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
            ).fetchall()
        web_app.cursor = EventCursor(web_app.cursor.cluster, ahead, 0)
        assert web_app.read() == ["gap", "a"]


def test_the_statement_in_the_contract_reads_the_same_events(database: str) -> None:
    """It returns the same pages, gaps and cursors."""
    append(database, "a", "b", "c")
    with reader(database) as ours, psycopg.connect(database, autocommit=True) as theirs:
        ours.until("a", "b", "c")
        theirs.execute(f"PREPARE page AS {contract_sql()}")

        def page(cluster: str, xid: object, id_: int) -> list[Any]:
            with theirs.cursor(row_factory=namedtuple_row) as cursor:
                return cursor.execute(f"EXECUTE page('{cluster}', '{xid}', {id_}, 2)").fetchall()

        (start,) = page("", 0, 0)
        assert (start.gap, start.id) == (True, None)
        first = page(start.cluster, start.edge_xid, start.edge_id)
        assert [(row.gap, row.job_id) for row in first] == [(False, "a"), (False, "b")]
        second = page(start.cluster, first[-1].xid, first[-1].id)
        assert [row.job_id for row in second] == ["c"]
        last = EventCursor(second[0].cluster, int(second[0].xid), second[0].id)
        assert last == ours.cursor
        (nothing,) = page(last.cluster, last.xid, last.id)
        assert (nothing.gap, nothing.id) == (False, None)
        theirs.execute("UPDATE event_edge SET trimmed_xid = %s, trimmed_id = %s", [str(last.xid), last.id])
        (gap,) = page(start.cluster, first[-1].xid, first[-1].id)
        assert (gap.gap, gap.edge_xid, gap.edge_id) == (True, str(last.xid), last.id)


@pytest.mark.parametrize(
    "text", ["", "then", "1:2", "1:2:3:4", "1:-2:3", "a:1:2", f"1:{2**64}:1", f"1:1:{2**63}", "1:1:1\n"]
)
def test_an_invalid_cursor_is_refused(text: str) -> None:
    """Before any query, and the message does not repeat the text."""
    with pytest.raises(IllegalRequestError, match=r"^a cursor is the text that came with an event$"):
        starting_point(text)


def test_starting_points_are_now_beginning_and_cursors() -> None:
    """Including the largest values; a system identifier may be negative."""
    text = f"-{2**63}:{2**64 - 1}:{2**63 - 1}"
    assert [starting_point(point) for point in (BEGINNING, NOW)] == [BEGINNING, NOW]
    assert str(starting_point(text)) == text


def test_an_ordinary_role_may_read(database: str) -> None:
    """The right to SELECT from both tables is enough."""
    append(database, "a")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE ROLE plain_reader")
        admin.execute("GRANT SELECT ON dispatch_event, event_edge TO plain_reader")
    try:
        with reader(database) as web_app:
            web_app.events._connection.execute("SET ROLE plain_reader")
            web_app.until("a")
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("DROP OWNED BY plain_reader")
            admin.execute("DROP ROLE plain_reader")


@pytest.mark.fresh_tables
def test_the_cost_of_a_page_does_not_grow_with_the_table(database: str) -> None:
    """In the middle of 50,000 events, never analyzed, only the rows of the page are read from the index."""
    place = {"xid": "300", "id": 0, "limit": 1000, "account": "mine", "jobs": None, "types": None}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO dispatch_event (xid, type)"
            " SELECT (5 + n / 80)::text::xid8, 'job_updated' FROM generate_series(1, 50000) n"
        )
        with reader(database) as web_app:
            place["cluster"] = web_app.cursor.cluster
        ((plan,),) = connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {stream._PAGE}", place
        ).fetchall()
    assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] < 60
