"""What a unit of work commits and publishes, and when a task is run again, rejected or requeued."""

import time
import traceback
from collections.abc import Callable
from contextlib import closing, suppress

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
from tasks.runtime.retry import UnfinishedError, run_until_done
from tasks.runtime.unit import unit_of_work
from tasks.sanitize.refused import RefusedItems

_IDLE = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""


def test_uncommitted_work_is_rolled_back_and_publishes_nothing(world: World) -> None:
    """Leaving the block without a commit writes and publishes nothing."""
    with unit_of_work() as uow:
        uow.account_queues.open(["acc"])
        uow.events.add(EventType.JOB_UPDATED, job_id="x")
        uow.publish("jobs.assign")

    assert world.scalar("SELECT count(*) FROM account_lane") == 0
    assert world.scalar("SELECT count(*) FROM dispatch_event") == 0
    assert world.published.messages == []


def test_messages_are_published_once_after_the_commit(database: str) -> None:
    """A published task finds the committed rows."""
    seen = []

    def publish(task: str, arguments: dict[str, object]) -> None:
        with engine().connect() as other:
            seen.append((task, arguments, other.scalar(text("SELECT count(*) FROM account_lane"))))

    with units.unit_of_work(publish) as uow:
        uow.account_queues.open(["acc"])
        uow.publish("jobs.assign")
        uow.publish("jobs.assign")
        uow.publish("jobs.cancel", account_id="a")
        assert seen == []
        uow.commit()

    assert seen == [("jobs.assign", {}, 1), ("jobs.cancel", {"account_id": "a"}, 1)]


def test_events_and_rejections_belong_to_the_units_transaction(world: World) -> None:
    """If events or rejections cannot be written, nothing is committed."""
    for add in (
        lambda uow: uow.events.add(EventType.JOB_UPDATED, text="NUL \x00"),
        lambda uow: uow.rejected._rows.append(
            {"id": "x", "task": "NUL \x00", "connection_id": None, "bytes": 0}
        ),
    ):
        with pytest.raises(DataRefusedError), unit_of_work() as uow:
            uow.account_queues.open(["acc"])
            uow.publish("jobs.assign")
            add(uow)
            uow.commit()

    assert world.scalar("SELECT count(*) FROM account_lane") == 0
    assert world.published.messages == []


def test_a_failed_publish_does_not_affect_the_commit(world: World) -> None:
    """It only logs a warning, and the other messages are published."""
    published = []

    def publish(task: str, _: dict[str, object]) -> None:
        if task == "jobs.assign":
            raise OSError("no broker")
        published.append(task)

    with units.unit_of_work(publish) as uow:
        uow.account_queues.open(["acc"])
        uow.publish("jobs.assign")
        uow.publish("upkeep.reconcile")
        uow.commit()

    assert world.scalar("SELECT count(*) FROM account_lane") == 1
    assert published == ["upkeep.reconcile"]


def test_a_frozen_unit_releases_its_locks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session of a frozen or cut-off worker ends, and its unit is run again."""
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
    """It would be requeued forever. Two idle timeouts are allowed: a worker may be frozen more than once."""
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
    """A failed savepoint undoes everything inside it; what was done before stays."""
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
    """They are set with SET LOCAL, because a pooler may give the session to another client next."""
    with unit_of_work() as uow:
        session = uow.accounts._session
        assert session.scalar(text("SHOW lock_timeout")) == "500ms"
        assert session.scalar(text("SHOW statement_timeout")) == "30s"
        backend = session.scalar(text("SELECT pg_backend_pid()"))
        uow.commit()
    with closing(engine().raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT pg_backend_pid(), current_setting('lock_timeout')")
        assert cursor.fetchone() == (backend, "0")


def test_database_errors_are_translated_and_hold_no_values(world: World) -> None:
    """Refused values, lock timeouts and lost connections become our errors, without the values."""
    with pytest.raises(DataRefusedError) as refused, unit_of_work() as uow:
        uow.accounts._session.execute(text("SELECT CAST(:secret AS int)"), {"secret": "topsecret"})
    assert refused.value.sqlstate == "22P02"
    assert "topsecret" not in "".join(traceback.format_exception(refused.value))

    secret = str(ULID())  # not in the source, which a traceback shows
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
    """If a session ends before its COMMIT, both server and pooler answer, and psycopg raises InternalError."""
    with pytest.raises(DatabaseLost), translate_errors():
        raise psycopg.InternalError("received 2 results from command 'COMMIT'")


def test_a_unit_that_lost_a_lock_conflict_is_run_again(world: World) -> None:
    """The whole unit is repeated soon; failed tries leave nothing behind."""
    tries = []

    def unit() -> None:
        with unit_of_work() as uow:
            uow.account_queues.open([f"try-{len(tries)}"])
            tries.append(time.monotonic())
            if len(tries) < 4:
                raise Contended("a deadlock")
            uow.commit()

    run_until_done(unit)

    assert [id_ for (id_,) in world.rows("SELECT account_id FROM account_lane")] == ["try-3"]
    assert tries[-1] - tries[0] < 1


def test_a_unit_without_a_database_waits_and_then_requeues_its_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is requeued after database_wait, and not acknowledged before it was processed."""
    monkeypatch.setenv("CRAWLYARD_DATABASE_WAIT", "1")
    world.reload_settings()
    tries = []

    def unit() -> None:
        tries.append(time.monotonic())
        raise DatabaseLost("gone")

    with pytest.raises(Reject) as requeued:
        run_until_done(unit)

    assert requeued.value.requeue is True
    assert len(tries) > 2
    assert tries[-1] - tries[0] <= 1


def test_a_waiting_unit_ends_when_the_worker_stops(world: World) -> None:
    """Once the worker stops, a unit neither waits for the database nor retries."""
    tries = []

    def unit() -> None:
        stopping.stop()
        tries.append(time.monotonic())
        raise DatabaseLost("gone")

    try:
        with pytest.raises(Reject) as requeued:
            run_until_done(unit)
    finally:
        stopping.reset()

    assert requeued.value.requeue is True
    assert len(tries) == 1


def test_unknown_arguments_are_rejected_with_the_reason(world: World) -> None:
    """Unknown, surplus and repeated arguments reject the message instead of losing it."""
    world.deliver("jobs.assign", surprise=1)
    world.deliver("connections.register", connection_id="x", access_token="glpat-abcdefghij0123456789")
    world.app.tasks["connections.register"].apply(args=[1, 2, 3, 4, 5, 6], throw=True)
    world.app.tasks["connections.register"].apply(args=[1], kwargs={"connection_id": 1}, throw=True)

    assert [reason for _, reason in world.rejections()] == ["invalid"] * 4
    assert "glpat-abcdefghij0123456789" not in str(world.rows("SELECT * FROM rejected_message"))


def test_an_invalid_message_is_rejected_once_however_often_it_is_delivered(world: World) -> None:
    """A redelivery stores nothing new, but another message with the same id is stored."""
    for message, payload in (("one", 1), ("one", 1), ("one", 2), ("two", 1)):
        world.deliver("jobs.submit", message, orders=payload)

    kept = world.rows("SELECT message_id, payload FROM rejected_message ORDER BY id")
    assert kept == [("one", {"orders": 1}), ("one", {"orders": 2}), ("two", {"orders": 1})]


def test_a_message_that_cannot_be_rejected_is_requeued(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was never migrated loses no message."""
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
    """A fault that retrying does not cure neither loses the message nor repeats it forever."""
    world.rows("ALTER TABLE socket_connection RENAME TO connection")

    try:
        world.deliver("connections.register", connection_id="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    finally:
        world.rows("ALTER TABLE connection RENAME TO socket_connection")

    assert world.rejections() == [("connections.register", "failed")]


def test_a_code_fault_rejects_the_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a task does not lose its message."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tasks.assign.rounds.assign_jobs", broken)

    world.deliver("jobs.assign")

    assert world.rejections() == [("jobs.assign", "failed")]


def test_a_unit_out_of_memory_is_left_to_the_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker runs the message again a bounded number of times, instead of rejecting it at once."""

    def too_large(_: object) -> int:
        raise MemoryError

    monkeypatch.setattr("tasks.assign.rounds.assign_jobs", too_large)

    monkeypatch.setattr(stopping, "wait", lambda _: None)
    monkeypatch.setenv("CRAWLYARD_DATABASE_WAIT", "1")
    world.reload_settings()

    with pytest.raises(UnfinishedError, match="out_of_memory"):
        world.deliver("jobs.assign")
    assert world.rejections() == []


def test_a_refused_batch_is_bisected_to_the_bad_item(world: World) -> None:
    """The good items are applied in their order, in savepoints of one transaction."""
    applied: list[int] = []
    refused: list[int] = []
    with unit_of_work() as uow:

        def apply(items: list[int]) -> None:
            uow.account_queues.open([f"account-{item}" for item in items])
            if 13 in items or 77 in items:
                raise DataRefusedError("no", "22000")
            applied.extend(items)

        batches.bisect_on_refusal(uow, list(range(100)), apply, lambda item, _: refused.append(item))
        uow.commit()

    assert refused == [13, 77]
    assert applied == [n for n in range(100) if n not in (13, 77)]
    assert world.scalar("SELECT count(*) FROM account_lane") == 98


def test_a_validated_item_keeps_its_position() -> None:
    """Positions count invalid items too, because ids are derived from them."""
    assert RefusedItems([1, "x", 3]).valid(TypeAdapter(int)) == [(0, 1), (2, 3)]
