"""The clean-up deletes old rows of each table in bounded transactions, and keeps recent ones."""

import pytest

from support.worlds.ages import clean_up, somebody
from support.worlds.world import World

TABLES = {
    # table: (days of retention, the column of the age, the end of an INSERT of a row of some age)
    "dispatch_event": (7, "created_at", "(type, created_at) VALUES ('job_updated', {at})"),
    "handled_message": (1, "handled_at", "VALUES ('{id}', {at})"),
    "rejected_message": (
        30,
        "rejected_at",
        "(id, rejected_at, reason, detail) VALUES ('{id}', {at}, 'invalid', '')",
    ),
    "socket_connection": (7, "closed_at", "(id, is_active, closed_at) VALUES ('{id}', false, {at})"),
    "job_error_log": (
        30,
        "timestamp",
        "(id, job_id, timestamp, error_type, error_message) VALUES ('{id}', '{job}', {at}, '', '')",
    ),
    "credential_refresh": (
        30,
        "started_at",
        "(token_hash, account_id, started_at, ended_at, claimed_by, outcome) VALUES ('{id}', '', {at}, now(), '', '')",
    ),
    "area_change": (
        30,
        "changed_at",
        "VALUES ('{id}', {at}, 'new', 'gid', 'old', NULL, 'acc', '{job}')",
    ),
}


def insert(world: World, table: str, ages: dict[str, str]) -> None:
    """Insert rows of these ages, by their ids."""
    job_id = world.insert_job()
    for id_, age in ages.items():
        row = TABLES[table][2].format(id=id_, at=f"now() - interval '{age}'", job=job_id)
        world.rows(f"INSERT INTO {table} {row}")


@pytest.mark.parametrize("table", TABLES)
def test_rows_older_than_their_retention_are_deleted(world: World, table: str) -> None:
    """A row an hour too old is deleted, and one an hour too recent is kept."""
    days = TABLES[table][0]
    insert(
        world,
        table,
        {"older": f"{days + 100} days", "old": f"{days} days 1 hour", "young": f"{days} days -1 hour"},
    )

    clean_up(world)

    (left,) = world.rows(f"SELECT * FROM {table}")
    assert table == "dispatch_event" or "young" in left
    assert world.scalar("SELECT count(*) FROM job") == 1
    assert world.published.messages == []


@pytest.mark.parametrize("table", sorted(TABLES.keys() - {"dispatch_event"}))
def test_a_locked_row_is_left_for_the_next_run(world: World, table: str) -> None:
    """The clean-up does not wait, and deletes the row beside it."""
    insert(world, table, {"held": "101 days", "free": "100 days"})

    with somebody(f"SELECT FROM {table} ORDER BY {TABLES[table][1]} LIMIT 1 FOR UPDATE"):
        clean_up(world)
        assert world.scalar(f"SELECT {TABLES[table][1]} < now() - interval '100 days 12 hours' FROM {table}")

    clean_up(world)
    assert world.rows(f"SELECT FROM {table}") == []


def test_an_open_connection_is_kept_whatever_its_age(world: World) -> None:
    """And so are its attempts."""
    crawler, orders = world.crawler_with_jobs()
    world.rows("UPDATE socket_connection SET connected_at = connected_at - interval '1 year'")
    crawler.silent_for(365 * 86400)

    clean_up(world)

    assert crawler.row().is_active
    assert crawler.orders() == orders


def test_an_unfinished_credential_refresh_is_kept_whatever_its_age(world: World) -> None:
    """Its outcome is unknown, so its token must not be sent again."""
    world.rows("INSERT INTO credential_refresh VALUES ('acc', 'hash', 'a run', now() - interval '1 year')")

    clean_up(world)

    assert world.scalar("SELECT token_hash FROM credential_refresh") == "hash"


def test_a_table_with_more_rows_than_a_chunk_publishes_another_run(world: World) -> None:
    """A thousand rows of each table but events at a time, the oldest first; the next run is published at once."""
    world.rows(
        "INSERT INTO handled_message"
        " SELECT n, now() - interval '2 days' + make_interval(secs => n) FROM generate_series(1, 1003) n"
    )
    world.rows("INSERT INTO rejected_message (id, reason, detail) VALUES ('young', 'invalid', '')")

    clean_up(world)

    assert world.published.messages == [("upkeep.clean_up", {"more": True})]
    left = {id_ for (id_,) in world.rows("SELECT message_id FROM handled_message")}
    assert left == {"1001", "1002", "1003"}

    world.published.messages.clear()
    world.deliver("upkeep.clean_up", more=True)
    assert world.rows("SELECT message_id FROM handled_message") == []
    assert world.published.messages == []
    assert world.scalar("SELECT count(*) FROM rejected_message") == 1


def test_a_chunk_deletes_more_events_than_a_thousand_jobs_leave(world: World) -> None:
    """Otherwise events would pile up; if more are left, another run is published."""
    world.rows(
        "INSERT INTO dispatch_event (type, created_at)"
        " SELECT 'job_updated', now() - interval '8 days' FROM generate_series(1, 10003)"
    )

    clean_up(world)

    assert world.scalar("SELECT count(*) FROM dispatch_event") == 3
    assert world.published.messages == [("upkeep.clean_up", {"more": True})]


def test_a_second_message_within_half_an_interval_does_nothing(world: World) -> None:
    """Half an interval is 5 min of 10."""
    clean_up(world)
    world.rows("INSERT INTO handled_message VALUES ('old', now() - interval '2 days')")

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '290 seconds'")
    world.deliver("upkeep.clean_up")
    assert world.scalar("SELECT count(*) FROM handled_message") == 1

    world.rows("UPDATE periodic_ring SET rung_at = clock_timestamp() - interval '301 seconds'")
    world.deliver("upkeep.clean_up")
    assert world.scalar("SELECT count(*) FROM handled_message") == 0
