"""Rows are locked in one order, no more strongly than needed, until the commit."""

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from persistence.exceptions import Contended
from persistence.fleet.connections import Beat
from persistence.schema.ids import ConnectionId, CrawlerJobId, JobId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from support.worlds.world import World
from tasks.jobs.locking import lock_jobs

ROWS = ("3", "1", "2")
"""Ids, in the order in which their rows were inserted into each table."""

JOBS = [JobId(id_) for id_ in ROWS]
FENCES = [CrawlerJobId(id_) for id_ in ROWS]
CONNECTIONS = [ConnectionId(id_) for id_ in ROWS]

SEED = """
    INSERT INTO account (id) SELECT unnest(CAST(:rows AS text[]));
    INSERT INTO account_lane (account_id) SELECT unnest(CAST(:rows AS text[]));
    INSERT INTO area (full_path, gitlab_id, type) SELECT id, id, 'group' FROM unnest(CAST(:rows AS text[])) id;
    INSERT INTO socket_connection (id) SELECT unnest(CAST(:rows AS text[]));
    INSERT INTO job (id, "accountId", command) SELECT id, id, 'project' FROM unnest(CAST(:rows AS text[])) id;
    INSERT INTO job_queue (id, web_app_job_id, account_id) SELECT id, id, id FROM unnest(CAST(:rows AS text[])) id;
    INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, connection_id, assigned_at)
    SELECT id, id, id, id, now() FROM unnest(CAST(:rows AS text[])) id;
    INSERT INTO job_error_log (id, job_id, timestamp, error_type, error_message, fingerprint)
    SELECT id, id, now() - interval '1 hour' + make_interval(secs => id::int), 'E', 'e', 'f'
      FROM unnest(CAST(:rows AS text[])) id;
    INSERT INTO deferred_job (id, account_id, command, full_path, priority, spawned_from)
    SELECT id, id, 'project', id, 1, id FROM unnest(CAST(:rows AS text[])) id
"""


@dataclass(frozen=True)
class Locking:
    """A method that locks rows of a table, and the key of the table."""

    table: str
    key: str
    lock: Callable[[UnitOfWork, World], object]


LOCKINGS = {
    "accounts.lock_key_share": Locking("account", "id", lambda uow, _: uow.accounts.lock_key_share(ROWS)),
    "areas.lock": Locking("area", "full_path", lambda uow, _: uow.areas.lock(ROWS, ROWS)),
    "attempts.count_stale": Locking(
        "job_assignment_mapping", "id", lambda uow, _: uow.attempts.count_stale(dict.fromkeys(FENCES, 1))
    ),
    "attempts.lock_live": Locking(
        "job_assignment_mapping", "id", lambda uow, _: uow.attempts.lock_live(FENCES)
    ),
    "connections.record_heartbeats": Locking(
        "socket_connection",
        "id",
        lambda uow, _: uow.connections.record_heartbeats([Beat(id_) for id_ in CONNECTIONS]),
    ),
    "connections.lock": Locking("socket_connection", "id", lambda uow, _: uow.connections.lock(CONNECTIONS)),
    "deferred.delete": Locking("deferred_job", "id", lambda uow, _: uow.deferred.delete(JOBS)),
    "deferred.prioritize": Locking("deferred_job", "id", lambda uow, _: uow.deferred.prioritize(JOBS, 2)),
    "error_log.resolve": Locking(
        "job_error_log",
        "id",
        lambda uow, world: uow.error_log.resolve("f", "fixed", until=world.now(), since=None, limit=3),
    ),
    "jobs.lock_key_share": Locking("job", "id", lambda uow, _: uow.jobs.lock_key_share(JOBS)),
    "jobs.lock": Locking("job", "id", lambda uow, _: uow.jobs.lock(JOBS)),
    "account_queues.lock": Locking(
        "account_lane", "account_id", lambda uow, _: uow.account_queues.lock(ROWS)
    ),
    "entries.lock": Locking("job_queue", "id", lambda uow, _: uow.entries.lock(JOBS)),
}


@pytest.fixture
def rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows in every table, not in the order of their ids, and a lock timeout that leaves time to look."""
    monkeypatch.setenv("CRAWLYARD_LOCK_TIMEOUT", "30")
    world.reload_settings()
    for statement in SEED.split(";"):
        world.rows(statement, rows=list(ROWS))


@pytest.mark.parametrize("name", LOCKINGS)
def test_rows_are_locked_in_the_order_of_their_keys(world: World, rows: None, name: str) -> None:
    """A unit that waits for the first row has locked no other, so that two units cannot deadlock."""
    at = LOCKINGS[name]
    key = f"SELECT {at.key} FROM {at.table}"

    def lock() -> None:
        with world.unit() as uow:
            # An index would return the rows in order.
            uow.accounts._session.execute(text("SELECT set_config('enable_indexscan', 'off', true)"))
            at.lock(uow, world)

    with engine().connect() as peer:
        peer.execute(text(f"{key} WHERE {at.key} = '1' FOR UPDATE"))
        thread = world.in_thread(lock)
        world.wait_for_lock_waiter()
        free = {id_ for (id_,) in world.rows(f"{key} FOR UPDATE SKIP LOCKED")}
        peer.rollback()
        thread.join()

    assert free >= {"2", "3"}
    assert "1" not in free


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("accounts.lock_key_share", "UPDATE account SET access_token = 'new' WHERE id <> 'acc'"),
        ("jobs.lock_key_share", "UPDATE job SET status = 'paused'"),
        ("jobs.lock", "INSERT INTO job_area SELECT id, id FROM job"),
        ("entries.lock", "UPDATE job SET status = 'paused'"),
        (
            "account_queues.lock",
            """INSERT INTO job (id, "accountId") SELECT id || 'x', id FROM account WHERE id <> 'acc'""",
        ),
        ("areas.lock", "INSERT INTO job_area SELECT id, id FROM job"),
    ],
)
def test_allowed_statements_of_the_web_app_are_not_blocked(
    world: World, rows: None, name: str, statement: str
) -> None:
    """Foreign keys to rows that we lock, and changes to rows that we lock FOR KEY SHARE, do not wait for us."""
    with world.unit() as uow:
        LOCKINGS[name].lock(uow, world)

        changed = _by_the_web_app(statement)

    assert changed == 3


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("accounts.lock_key_share", "DELETE FROM account WHERE id = '1'"),
        ("jobs.lock_key_share", "DELETE FROM job WHERE id = '1'"),
        ("jobs.lock", "UPDATE job SET status = 'paused' WHERE id = '1'"),
        ("areas.lock", "UPDATE area SET gitlab_id = 'x' WHERE full_path = '1'"),
    ],
)
def test_locked_rows_cannot_be_deleted_before_the_commit(
    world: World, rows: None, name: str, statement: str
) -> None:
    """Rows that a unit relies on are neither deleted nor changed before it ends."""
    with world.unit() as uow:
        LOCKINGS[name].lock(uow, world)

        with pytest.raises(psycopg.errors.LockNotAvailable):
            _by_the_web_app(statement)


def test_a_job_assigned_between_read_and_lock_makes_the_unit_run_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection must be locked first, which would now be out of order."""
    monkeypatch.setenv("CRAWLYARD_LOCK_TIMEOUT", "30")
    world.reload_settings()
    (job_id,) = world.jobs(1)
    crawler = world.crawler()
    met: list[type[BaseException]] = []

    def lock() -> None:
        try:
            with world.unit() as uow:
                lock_jobs(uow, [JobId(job_id)])
        except Contended as error:
            met.append(type(error))

    with engine().connect() as peer:
        peer.execute(text("SELECT FROM job_queue FOR UPDATE"))
        thread = world.in_thread(lock)
        world.wait_for_lock_waiter()
        peer.execute(
            text(
                "INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, connection_id, assigned_at)"
                " VALUES ('a', :job, 'a', :connection, now())"
            ),
            {"job": job_id, "connection": crawler.id},
        )
        peer.commit()
        thread.join()

    assert met == [Contended]


def _by_the_web_app(statement: str) -> int:
    """Run a statement in a session that does not wait for locks; returns the number of changed rows."""
    with psycopg.connect(settings().session_url, options="-c lock_timeout=200ms") as web_app:
        return web_app.execute(statement).rowcount
