"""One task, one transaction: what commits, what rings, what is run again, and what goes back to its queue."""

import time
import traceback
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest
from celery.exceptions import Reject
from pydantic import TypeAdapter
from sqlalchemy import text
from ulid import ULID

from persistence import unit_of_work as units
from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import Contended, DatabaseFaultError, DatabaseLost, DataRefusedError
from persistence.schema.event_types import EventType
from persistence.settings import settings
from support.processes.workers import wait_until
from support.worlds.world import World
from tasks.runtime import batches, stopping
from tasks.runtime.retry import run_until_done
from tasks.runtime.unit import unit_of_work

_IDLE = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""


def test_uncommitted_work_is_rolled_back_and_publishes_nothing(world: World) -> None:
    """Leaving the block is no commit."""
    with unit_of_work() as uow:
        uow.account_queues.open(["acc"])
        uow.events.add(EventType.JOB_UPDATED, job_id="x")
        uow.publish("jobs.assign")

    assert world.scalar("SELECT count(*) FROM account_lane") == 0
    assert world.scalar("SELECT count(*) FROM dispatch_event") == 0
    assert world.published.messages == []


def test_messages_are_published_once_after_the_commit(database: str) -> None:
    """Whoever is rung finds what was committed."""
    seen = []

    def ring(task: str, arguments: dict[str, object]) -> None:
        with engine().connect() as other:
            seen.append((task, arguments, other.scalar(text("SELECT count(*) FROM account_lane"))))

    with units.unit_of_work(ring) as uow:
        uow.account_queues.open(["acc"])
        uow.publish("jobs.assign")
        uow.publish("jobs.assign")
        uow.publish("jobs.cancel", account_id="a")
        assert seen == []
        uow.commit()

    assert seen == [("jobs.assign", {}, 1), ("jobs.cancel", {"account_id": "a"}, 1)]


def test_events_and_rejections_belong_to_the_units_transaction(world: World) -> None:
    """What cannot be told is not done either."""
    for tell in (
        lambda uow: uow.events.add(EventType.JOB_UPDATED, text="NUL \x00"),
        lambda uow: uow.rejected._rows.append({"id": "x", "task": "NUL \x00"}),
    ):
        with pytest.raises(DataRefusedError), unit_of_work() as uow:
            uow.account_queues.open(["acc"])
            uow.publish("jobs.assign")
            tell(uow)
            uow.commit()

    assert world.scalar("SELECT count(*) FROM account_lane") == 0
    assert world.published.messages == []


def test_a_failed_publish_does_not_affect_the_commit(world: World) -> None:
    """It is a warning: sweeps find what it was about. The other bells ring."""
    published = []

    def ring(task: str, _: dict[str, object]) -> None:
        if task == "jobs.assign":
            raise OSError("no broker")
        published.append(task)

    with units.unit_of_work(ring) as uow:
        uow.account_queues.open(["acc"])
        uow.publish("jobs.assign")
        uow.publish("upkeep.reconcile")
        uow.commit()

    assert world.scalar("SELECT count(*) FROM account_lane") == 1
    assert published == ["upkeep.reconcile"]


def test_a_frozen_unit_releases_its_locks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen worker, or one parted from the server without a word: its session ends, and it is run again."""
    monkeypatch.setenv("CRAWLYARD_STATEMENT_TIMEOUT", "0.5")
    settings.cache_clear()

    def is_free() -> bool:
        with suppress(Contended), unit_of_work() as other:
            other.sweep_state.lock()
            return True
        return False

    with pytest.raises(DatabaseLost), unit_of_work() as asleep:
        asleep.sweep_state.lock()
        wait_until(is_free, "the lock is free", patience=20)
        asleep.now()
    settings.cache_clear()


def test_a_message_that_always_idles_in_transaction_is_rejected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given back, it would come again for ever. Twice is no reason: a worker may be frozen more than once."""
    monkeypatch.setenv("CRAWLYARD_STATEMENT_TIMEOUT", "0.2")
    settings.cache_clear()
    deliveries: list[int] = []

    def silent(uow: units.UnitOfWork) -> int:
        deliveries.append(1)
        if len(deliveries) != 3:
            wait_until(lambda: not world.scalar(_IDLE), "the session is ended")
        return uow.entries.mark_due_ready(1)

    monkeypatch.setattr("tasks.assign.rounds.assign_jobs", silent)

    world.deliver("jobs.assign")
    assert (len(deliveries), world.rejections()) == (3, [])

    deliveries[:] = [0] * 3
    world.deliver("jobs.assign")
    assert (len(deliveries), world.rejections()) == (6, [("jobs.assign", "failed")])
    settings.cache_clear()


def test_a_savepoint_rolls_back_rows_events_rejections_and_messages(world: World) -> None:
    """All or nothing; what stood before it stays."""
    with unit_of_work() as uow:
        uow.publish("jobs.assign")
        with pytest.raises(DataRefusedError), uow.savepoint():
            uow.account_queues.open(["acc"])
            uow.events.add(EventType.JOB_UPDATED, job_id="x")
            uow.rejected.keep(task="t", payload=1, reason="r")
            uow.publish("upkeep.reconcile")
            uow.accounts._session.execute(text("SELECT 1/0"))
        uow.commit()

    assert world.scalar("SELECT count(*) FROM account_lane") == 0
    assert world.scalar("SELECT count(*) FROM dispatch_event") == 0
    assert world.rejections() == []
    assert world.published.messages == [("jobs.assign", {})]


def test_timeouts_apply_to_the_transaction_only(world: World) -> None:
    """SET LOCAL: a pooler may give the session to somebody else next."""
    with unit_of_work() as uow:
        session = uow.accounts._session
        assert session.scalar(text("SHOW lock_timeout")) == "500ms"
        assert session.scalar(text("SHOW statement_timeout")) == "30s"
        backend = session.scalar(text("SELECT pg_backend_pid()"))
        uow.commit()
    with engine().connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == backend
        assert connection.scalar(text("SHOW lock_timeout")) == "0"


def test_database_errors_are_translated_and_hold_no_values(world: World) -> None:
    """Chosen by SQLSTATE: refused values, a lock not had in time, a connection lost."""
    with pytest.raises(DataRefusedError) as refused, unit_of_work() as uow:
        uow.accounts._session.execute(text("SELECT CAST(:secret AS int)"), {"secret": "topsecret"})
    assert refused.value.sqlstate == "22P02"
    assert "topsecret" not in "".join(traceback.format_exception(refused.value))

    secret = str(ULID())  # the source, which a trace shows, does not have it
    with pytest.raises(DatabaseFaultError) as fault, unit_of_work() as uow:
        uow.accounts._session.execute(text("SELECT FROM nowhere WHERE id = :secret"), {"secret": secret})
    assert secret not in "".join(traceback.format_exception(fault.value))

    with engine().connect() as holder, pytest.raises(Contended), unit_of_work() as uow:
        holder.execute(text("SELECT FROM account FOR UPDATE"))
        uow.accounts.lock_key_share(["acc"])

    with pytest.raises(DatabaseLost), unit_of_work() as uow:
        uow.accounts._session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert world.scalar("SELECT 1") == 1


def test_unexpected_answers_count_as_a_lost_database() -> None:
    """As where a session ended before its COMMIT, and a pooler says so beside the server."""
    with pytest.raises(DatabaseLost), translate_errors():
        raise psycopg.InternalError("received 2 results from command 'COMMIT'")


def test_a_unit_that_lost_a_lock_conflict_is_run_again(world: World) -> None:
    """As a whole, soon and often; its first tries leave nothing."""
    tries = []

    def unit() -> None:
        with unit_of_work() as uow:
            uow.account_queues.open([f"try-{len(tries)}"])
            tries.append(time.monotonic())
            if len(tries) < 4:
                raise Contended("a deadlock")
            uow.commit()

    run_until_done(unit)

    assert [lane for (lane,) in world.rows("SELECT account_id FROM account_lane")] == ["try-3"]
    assert tries[-1] - tries[0] < 1


def test_a_unit_without_a_database_waits_and_then_requeues_its_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never acknowledged unhandled: after database_wait it goes back to its queue."""
    monkeypatch.setenv("CRAWLYARD_DATABASE_WAIT", "1")
    world.reload_settings()
    tries = []

    def unit() -> None:
        tries.append(time.monotonic())
        raise DatabaseLost("gone")

    with pytest.raises(Reject) as given_back:
        run_until_done(unit)

    assert given_back.value.requeue is True
    assert len(tries) > 2
    assert tries[-1] - tries[0] <= 1


def test_a_waiting_unit_ends_when_the_worker_stops(world: World) -> None:
    """A stop does not wait for the database, and does not ask for it again and again either."""
    tries = []

    def unit() -> None:
        stopping.stop()
        tries.append(time.monotonic())
        raise DatabaseLost("gone")

    try:
        with pytest.raises(Reject) as given_back:
            run_until_done(unit)
    finally:
        stopping.reset()

    assert given_back.value.requeue is True
    assert len(tries) == 1


def test_unknown_arguments_are_rejected_with_the_reason(world: World) -> None:
    """Unknown ones, too many, one twice: never a TypeError in a log and a message gone."""
    world.deliver("jobs.assign", surprise=1)
    world.deliver("connections.register", connection_id="x", access_token="glpat-abcdefghij0123456789")
    world.app.tasks["connections.register"].apply(args=[1, 2, 3, 4, 5, 6], throw=True)
    world.app.tasks["connections.register"].apply(args=[1], kwargs={"connection_id": 1}, throw=True)

    assert [reason for _, reason in world.rejections()] == ["invalid"] * 4
    assert "glpat-abcdefghij0123456789" not in str(world.rows("SELECT * FROM rejected_message"))


def test_an_invalid_message_is_rejected_once_however_often_it_is_delivered(world: World) -> None:
    """Delivered again since its worker died behind the COMMIT; but another one with its id is another one."""
    for message, payload in (("one", 1), ("one", 1), ("one", 2), ("two", 1)):
        world.deliver("jobs.submit", message, orders=payload)

    kept = world.rows("SELECT message_id, payload FROM rejected_message ORDER BY id")
    assert kept == [("one", {"orders": 1}), ("one", {"orders": 2}), ("two", {"orders": 1})]


def test_a_message_that_cannot_be_rejected_is_requeued(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was never migrated loses nothing."""
    monkeypatch.setattr("tasks.runtime.task._REQUEUE_PAUSE_S", 0)
    outcomes = []
    monkeypatch.setattr("tasks.runtime.task.run_until_done", _noting(outcomes, run_until_done))
    for table in ("handled_message", "rejected_message"):
        world.rows(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        result = world.app.tasks["connections.register"].apply(
            kwargs={"connection_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}
        )
    finally:
        for table in ("handled_message", "rejected_message"):
            world.rows(f"ALTER TABLE {table}_away RENAME TO {table}")

    assert outcomes == ["DatabaseFaultError", "DatabaseFaultError"]
    assert result.state == "REJECTED"


def _noting(outcomes: list[str], run_until_done: Callable[[Callable[[], None]], None]) -> Callable[..., None]:
    def noting(unit: Callable[[], None]) -> None:
        try:
            run_until_done(unit)
        except Exception as error:
            outcomes.append(type(error).__name__)
            raise

    return noting


def test_a_schema_fault_rejects_the_message(world: World) -> None:
    """What no retry mends is neither lost nor tried for ever."""
    world.rows("ALTER TABLE socket_connection RENAME TO connection")

    try:
        world.deliver("connections.register", connection_id="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    finally:
        world.rows("ALTER TABLE connection RENAME TO socket_connection")

    assert world.rejections() == [("connections.register", "failed")]


def test_a_code_fault_rejects_the_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a task is no reason to lose what it was told."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tasks.assign.rounds.assign_jobs", broken)

    world.deliver("jobs.assign")

    assert world.rejections() == [("jobs.assign", "failed")]


def test_a_unit_out_of_memory_is_left_to_the_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs the message again a bounded number of times; kept at once it would get no second try."""

    def too_large(_: object) -> int:
        raise MemoryError

    monkeypatch.setattr("tasks.assign.rounds.assign_jobs", too_large)

    with pytest.raises(MemoryError):
        world.deliver("jobs.assign")
    assert world.rejections() == []


def test_a_refused_batch_is_bisected_to_the_bad_item(world: World) -> None:
    """In savepoints of one transaction: the good items are applied, in their order."""
    applied: list[int] = []
    refused: list[int] = []
    with unit_of_work() as uow:

        def apply(items: list[int]) -> None:
            uow.account_queues.open([f"lane-{item}" for item in items])
            if 13 in items or 77 in items:
                raise DataRefusedError("no", "22000")
            applied.extend(items)

        batches.bisect_on_refusal(uow, list(range(100)), apply, lambda item, _: refused.append(item))
        uow.commit()

    assert refused == [13, 77]
    assert applied == [n for n in range(100) if n not in (13, 77)]
    assert world.scalar("SELECT count(*) FROM account_lane") == 98


def test_a_validated_item_keeps_its_position(world: World) -> None:
    """Ids are derived from message id and position: the bad items count."""
    with unit_of_work() as uow:
        assert list(batches.valid_items(uow, [1, "x", 3], TypeAdapter(int))) == [(0, 1), (2, 3)]
