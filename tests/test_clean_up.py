"""What is old is deleted, each table by its age and in bounded units; what is young or still at work stays."""

import pytest

from support.world import World

TABLES = {
    # table: (days it is kept, how a row of some age gets in)
    "dispatch_event": (7, "(type, created_at) VALUES ('job_updated', {at})"),
    "handled_message": (1, "VALUES ('{id}', {at})"),
    "rejected_message": (30, "(id, rejected_at, reason, detail) VALUES ('{id}', {at}, 'invalid', '')"),
    "socket_connection": (7, "(id, is_active, closed_at) VALUES ('{id}', false, {at})"),
    "job_error_log": (
        30,
        "(id, job_id, timestamp, error_type, error_message) VALUES ('{id}', '{job}', {at}, '', '')",
    ),
}


def clean_up(world: World) -> None:
    """Ring upkeep.clean_up, long after the last time."""
    world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '1 day'")
    world.rung.bells.clear()
    world.deliver("upkeep.clean_up")


@pytest.mark.parametrize("table", TABLES)
def test_rows_go_when_they_are_older_than_they_are_kept(world: World, table: str) -> None:
    """Those of an hour more, and none of an hour less."""
    job_id = world.insert_job()
    days, row = TABLES[table]
    for id_, hours in (("old", 1), ("older", 500), ("young", -1)):
        at = f"now() - interval '{days} days {hours} hours'"
        world.rows(f"INSERT INTO {table} {row.format(id=id_, at=at, job=job_id)}")

    clean_up(world)

    (left,) = world.rows(f"SELECT * FROM {table}")
    assert table == "dispatch_event" or "young" in left
    assert world.job(job_id).status == "queued"
    assert world.rung.bells == []


def test_only_completed_entries_go(world: World) -> None:
    """Pending, processing and failed ones stay however old; so do jobs and attempts; nothing is queued anew."""
    old, young, failed, pending, processing = world.jobs(5)
    for job_id, status in (
        (old, "finished"),
        (young, "finished"),
        (failed, "failed"),
        (processing, "running"),
    ):
        entry = {"finished": "completed", "running": "processing"}.get(status, status)
        world.rows("UPDATE job SET status = :s WHERE id = :id", s=status, id=job_id)
        world.rows(
            "UPDATE job_queue SET status = :s, settled_at = CASE WHEN :s <> 'processing' THEN now() END"
            " WHERE web_app_job_id = :id", s=entry, id=job_id,
        )  # fmt: skip
    for column in ("settled_at", "scheduled_at"):
        world.rows(
            f"UPDATE job_queue SET {column} = {column} - interval '8 days' WHERE web_app_job_id <> :id",
            id=young,
        )

    clean_up(world)

    left = {job_id for (job_id,) in world.rows("SELECT web_app_job_id FROM job_queue")}
    assert left == {young, failed, pending, processing}
    assert world.one("SELECT count(*) FROM job") == 5
    with world.unit() as uow:
        assert old not in uow.queue.unheard(10)


def test_an_open_connection_stays_however_old(world: World) -> None:
    """And so does what it works on."""
    crawler, orders = world.working()
    world.rows("UPDATE socket_connection SET connected_at = connected_at - interval '1 year'")
    crawler.silent_for(365 * 86400)

    clean_up(world)

    assert crawler.row().is_active
    assert crawler.orders() == orders


def test_a_table_with_more_than_a_unit_rings_it_again(world: World) -> None:
    """A thousand rows a table at a time, the oldest first; the continuation runs at once."""
    world.rows(
        "INSERT INTO handled_message"
        " SELECT n, now() - interval '2 days' + make_interval(secs => n) FROM generate_series(1, 1003) n"
    )
    world.rows("INSERT INTO rejected_message (id, reason, detail) VALUES ('young', 'invalid', '')")

    clean_up(world)

    assert world.rung.bells == [("upkeep.clean_up", {"more": True})]
    left = {id_ for (id_,) in world.rows("SELECT message_id FROM handled_message")}
    assert left == {"1001", "1002", "1003"}

    world.rung.bells.clear()
    world.deliver("upkeep.clean_up", more=True)
    assert world.rows("SELECT message_id FROM handled_message") == []
    assert world.rung.bells == []
    assert world.one("SELECT count(*) FROM rejected_message") == 1


def test_rung_twice_within_half_an_interval_it_does_once(world: World) -> None:
    """Many beats are as one: 5 min of 10."""
    clean_up(world)
    world.rows("INSERT INTO handled_message VALUES ('old', now() - interval '2 days')")

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '290 seconds'")
    world.deliver("upkeep.clean_up")
    assert world.one("SELECT count(*) FROM handled_message") == 1

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '301 seconds'")
    world.deliver("upkeep.clean_up")
    assert world.one("SELECT count(*) FROM handled_message") == 0
