"""
Units wait for a database that has run out of a resource or has become read-only; no message is rejected.

Exhausted connections, a full pool, full temporary space and a read-only database are real. A full disk, an I/O error
and the like would need root: a trigger raises their errors instead.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from sqlalchemy import text

from persistence.db.engine import engine
from support.worlds.world import World
from tasks.runtime import retry, stopping

WAITED_FOR = {
    "08006": "connection_failure",
    "08P01": "protocol_violation",
    "25006": "read_only_sql_transaction",
    "25P04": "transaction_timeout",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "57P01": "admin_shutdown",
    "57P03": "cannot_connect_now",
    "58030": "io_error",
    "42501": "insufficient_privilege",
}
RUN_AGAIN = {
    "40001": "serialization_failure",
    "40P01": "deadlock_detected",
    "55P03": "lock_not_available",
    "57014": "query_canceled",
}
KEPT = {"XX000": "internal_error", "XX001": "data_corrupted"}

SPILL = (
    "PERFORM count(*) FROM (SELECT x FROM generate_series(1, 300000) x ORDER BY x DESC OFFSET 1) AS spilled;"
)

Pauses = list[float]


@pytest.fixture
def until_done(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Pauses]:
    """Remove a fault during the second pause of a unit; returns the pauses."""

    def install(remedy: Callable[[], object]) -> Pauses:
        pauses: Pauses = []

        def wait(seconds: float) -> None:
            pauses.append(seconds)
            assert len(pauses) < 10
            if len(pauses) == 2:
                remedy()

        monkeypatch.setattr(stopping, "wait", wait)
        return pauses

    return install


@contextmanager
def trouble(world: World, body: str) -> Iterator[Callable[[], object]]:
    """Run this at each insert of a queue entry, until the yielded function is called."""
    world.rows(
        f"CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
    )
    world.rows("CREATE TRIGGER trouble BEFORE INSERT ON job_queue EXECUTE FUNCTION trouble()")

    def remedy() -> None:
        world.rows("DROP FUNCTION IF EXISTS trouble() CASCADE")

    try:
        yield remedy
    finally:
        remedy()


def raising(state: str) -> str:
    """A PL/pgSQL statement that raises this SQLSTATE."""
    return f"RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'trouble';"


def submitted_once(world: World) -> None:
    """Check that the order was submitted completely and once."""
    assert world.scalar("SELECT count(*) FROM job") == 1
    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'pending'") == 1
    assert len(world.events("job_created")) == 1
    assert world.rejections() == []
    assert world.published.of("jobs.assign") == [{}]


def submit(world: World) -> None:
    """Submit one order."""
    world.deliver("jobs.submit", orders=[world.order()])


@pytest.mark.parametrize("state", WAITED_FOR)
def test_an_unusable_database_is_waited_for(
    state: str, world: World, until_done: Callable[..., Pauses]
) -> None:
    """The unit waits with growing pauses, and then runs once."""
    with trouble(world, raising(state)) as remedy:
        pauses = until_done(remedy)
        submit(world)

    submitted_once(world)
    assert len(pauses) == 2
    assert pauses[0] >= retry._LOST_STEP_S / 2


@pytest.mark.parametrize("state", RUN_AGAIN)
def test_a_contended_unit_is_run_again(state: str, world: World, until_done: Callable[..., Pauses]) -> None:
    """It is run again after short pauses, not like a unit that lost its database."""
    with trouble(world, raising(state)) as remedy:
        pauses = until_done(remedy)
        submit(world)

    submitted_once(world)
    assert max(pauses) < retry._LOST_STEP_S


@pytest.mark.parametrize("state", KEPT)
def test_a_permanent_fault_rejects_the_message(state: str, world: World) -> None:
    """The message is rejected, and nothing was written."""
    with trouble(world, raising(state)):
        submit(world)

    assert world.rejections() == [("jobs.submit", "failed")]
    assert world.scalar("SELECT count(*) FROM job") == 0
    assert world.published.messages == []


def test_a_full_temporary_disk_is_waited_for(world: World, until_done: Callable[..., Pauses]) -> None:
    """The server itself raises 53400."""
    limits = "SET LOCAL temp_file_limit = '64kB'; SET LOCAL work_mem = '64kB';"
    with trouble(world, f"{limits} {SPILL}") as remedy:
        pauses = until_done(remedy)
        submit(world)

    submitted_once(world)
    assert len(pauses) == 2


@pytest.mark.unpooled("a pooler keeps the sessions that it has")
def test_a_server_without_free_connections_is_waited_for(
    world: World, database: str, until_done: Callable[..., Pauses]
) -> None:
    """The server itself raises 53300 while other clients use all connections."""
    with ExitStack() as others:
        engine().dispose()
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            while True:
                others.enter_context(psycopg.connect(database))
        pauses = until_done(others.close)
        submit(world)

    submitted_once(world)
    assert len(pauses) == 2


def test_a_pool_without_free_connections_is_waited_for(
    world: World, until_done: Callable[..., Pauses], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All connections of this process's pool are used."""
    monkeypatch.setattr(engine().pool, "_timeout", 0.1)
    order = world.order()
    with ExitStack() as others:
        for _ in range(engine().pool.size()):
            others.enter_context(engine().connect())
        pauses = until_done(others.close)
        world.deliver("jobs.submit", orders=[order])

    submitted_once(world)
    assert len(pauses) == 2


@pytest.mark.unpooled("a pooler keeps sessions that began before")
def test_a_read_only_database_is_waited_for(
    world: World, database: str, until_done: Callable[..., Pauses]
) -> None:
    """The server itself raises 25006, like a standby that a failover led to too early."""
    name = database.rsplit("/", 1)[1]
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")

        def remedy() -> None:
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")

        order = world.order()
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        engine().dispose()
        try:
            pauses = until_done(remedy)
            world.deliver("jobs.submit", orders=[order])
        finally:
            remedy()

    submitted_once(world)
    assert len(pauses) == 2


def test_a_connection_to_an_old_primary_is_given_up(world: World, until_done: Callable[..., Pauses]) -> None:
    """
    A connection that a failover left alive but read-only is not used again.

    The database's name already leads elsewhere; the pool would reuse the old connection for half an hour.
    """
    order = world.order()
    engine().dispose()
    with engine().connect() as session:
        session.execute(text("SET default_transaction_read_only = on"))
        session.commit()

    pauses = until_done(lambda: None)
    world.deliver("jobs.submit", orders=[order])

    submitted_once(world)
    assert len(pauses) == 1
