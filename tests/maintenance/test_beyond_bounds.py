"""Tables that grow by what crawlers say have a bound of rows, beyond which the oldest are deleted."""

import pytest

from persistence.reports.statistics import read_statistics
from support.worlds.ages import clean_up
from support.worlds.world import World


def bounded(world: World, monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    """Set bounds."""
    for name, limit in limits.items():
        monkeypatch.setenv(f"CRAWLYARD_MAX_{name}", str(limit))
    world.reload_settings()


def test_the_oldest_rows_beyond_a_bound_are_deleted_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest stay, an open connection whatever its age, and the statistics add up what was deleted."""
    bounded(world, monkeypatch, ERRORS=3, CLOSED_CONNECTIONS=2, AREA_CHANGES=1)
    monkeypatch.setattr("tasks.maintenance.cleanup.CHUNK_ROWS", 2)
    job_id = world.insert_job()
    world.rows(f"""
        INSERT INTO job_error_log (id, job_id, timestamp, error_type, error_message)
        SELECT n::text, '{job_id}', now() - make_interval(mins => n), '', '' FROM generate_series(1, 8) n;
        INSERT INTO socket_connection (id, is_active, closed_at)
        SELECT n::text, false, now() - make_interval(mins => n) FROM generate_series(1, 4) n;
        INSERT INTO socket_connection (id, connected_at) VALUES ('open', now() - interval '1 year');
        INSERT INTO area_change (id, changed_at, full_path, gitlab_id, former_path, account_id, job_id)
        SELECT n::text, now() + make_interval(mins => n), 'new', 'gid', 'old', 'acc', '' FROM generate_series(1, 3) n
    """)

    clean_up(world)

    assert world.rows("SELECT id FROM job_error_log ORDER BY id") == [("1",), ("2",), ("3",)]
    assert world.rows("SELECT id FROM socket_connection ORDER BY id") == [("1",), ("2",), ("open",)]
    assert world.rows("SELECT id FROM area_change") == [("3",)]
    deleted = read_statistics().beyond_bounds
    assert deleted == {"job_error_log": 5, "socket_connection": 2, "area_change": 2}

    clean_up(world)
    world.rows("UPDATE job_error_log SET id = 'x' || id")
    world.rows(f"""
        INSERT INTO job_error_log (id, job_id, error_type, error_message) VALUES ('new', '{job_id}', '', '')
    """)
    clean_up(world)

    assert read_statistics().beyond_bounds == deleted | {"job_error_log": 6}
    assert world.scalar("SELECT count(*) FROM job_error_log") == 3


def test_events_beyond_the_bound_are_deleted_and_readers_get_a_gap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However recent they are."""
    bounded(world, monkeypatch, EVENTS=1000)
    world.rows("INSERT INTO dispatch_event (type) SELECT 'job_updated' FROM generate_series(1, 1500)")

    clean_up(world)

    assert world.scalar("SELECT count(*) FROM dispatch_event") == 1000
    assert world.scalar("SELECT trimmed_id > 0 FROM event_edge")
    assert read_statistics().beyond_bounds == {"dispatch_event": 500}


def test_events_that_are_deleted_by_their_age_are_not_beyond_a_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning about a bound must mean one."""
    bounded(world, monkeypatch, EVENTS=1000)
    world.rows("""
        INSERT INTO dispatch_event (type, created_at)
        SELECT 'job_updated', now() - interval '8 days' FROM generate_series(1, 1500)
    """)

    clean_up(world)

    assert world.scalar("SELECT count(*) FROM dispatch_event") == 0
    assert read_statistics().beyond_bounds == {}


def test_ids_of_messages_beyond_their_bound_are_deleted_but_for_recent_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go first; those of the last hour stay, since their messages may be delivered again."""
    bounded(world, monkeypatch, HANDLED=2)
    world.rows("""
        INSERT INTO handled_message (message_id, handled_at)
        SELECT 'old ' || n, now() - make_interval(hours => n) FROM generate_series(2, 4) n
        UNION ALL SELECT 'new ' || n, now() - make_interval(mins => n) FROM generate_series(1, 3) n
    """)

    clean_up(world)

    ids = "SELECT message_id FROM handled_message WHERE message_id ~ '^(old|new)' ORDER BY 1"
    assert world.rows(ids) == [("new 1",), ("new 2",), ("new 3",)]
    assert read_statistics().beyond_bounds == {"handled_message": 3}
