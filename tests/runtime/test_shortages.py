"""Who publishes and who reads does without descriptors and memory for a moment, and continues afterwards."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.beat import Scheduler
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.exceptions import OperationalError

from persistence.events import subscription as subscriptions
from persistence.events.cursor import BEGINNING
from persistence.events.subscription import Subscription
from persistence.exceptions import ResourcesShort, TransientError
from support.command import Run
from support.worlds.readers import append, named
from support.worlds.tokens import Tokens
from tasks.app import app
from tasks.client import Producer
from tasks.credentials import oauth, refresh
from tasks.credentials.token_info import TokenState, check_token
from tasks.own_celery import OwnCelery
from tasks.runtime import stopping
from tasks.worker import lifecycle, liveness
from tasks.worker.consumer import Consumer

SHORTAGES = (OSError(errno.EMFILE, "Too many open files"), MemoryError())


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_producer_says_that_it_could_not_publish(broker: str) -> None:
    """It raises what its callers expect of a broker that is away, and publishes the next message."""
    with closing(Producer(broker)) as producer, redis.Redis.from_url(broker) as client:
        with no_descriptors(), pytest.raises(OperationalError, match="Too many open files"):
            producer.publish("jobs.assign", {})
        assert client.llen("dispatch") == 0
        producer.publish("jobs.assign", {})
        assert client.llen("dispatch") == 1


def test_a_command_says_in_one_line_that_it_could_not_publish(
    broker: str, run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It claims no message that was not published."""
    monkeypatch.setattr(OwnCelery, "send_task", raising(SHORTAGES[0]))

    output = run("jobs", "cancel", "--job", "01ARZ3NDEKTSV4RRFFQ69G5FAV")

    assert (output.code, output.out) == (2, "")
    assert output.err == "crawlyard: The broker cannot be used: Too many open files\n"


def test_a_worker_that_finds_no_descriptor_connects_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery would end it, and all that it runs; its other errors are left to Celery."""
    pauses: list[float] = []
    monkeypatch.setattr(stopping, "wait", pauses.append)
    monkeypatch.setattr(CeleryConsumer, "start", lambda self: self.blueprint.start(self))
    for error, met in ((SHORTAGES[0], redis.ConnectionError), (FileNotFoundError(), FileNotFoundError)):
        consumer = object.__new__(Consumer)
        consumer.blueprint = SimpleNamespace(start=raising(error))
        with pytest.raises(met):
            consumer.start()

    assert pauses == [1]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")], ids=repr)
def test_a_message_for_which_there_is_no_room_is_requeued(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker would end. A message that the pool has run nevertheless is not requeued."""
    later: list[Callable[[], object]] = []
    requeued: list[object] = []
    loop = SimpleNamespace(call_later=lambda _seconds, function: later.append(function))
    monkeypatch.setattr("tasks.worker.consumer.get_event_loop", lambda: loop)
    monkeypatch.setattr("tasks.worker.consumer.admit", lambda *_: None)
    monkeypatch.setattr(CeleryConsumer, "create_task_handler", lambda _: raising(error))
    consumer = object.__new__(Consumer)
    consumer.app, consumer.connection_errors = app, ()
    message = SimpleNamespace(
        acknowledged=False, reject_log_error=lambda *_, requeue: requeued.append(requeue)
    )
    on_task_received = consumer.create_task_handler()

    on_task_received(message)
    assert requeued == []
    later.pop()()
    assert requeued == [True]

    on_task_received(message)
    message.acknowledged = True
    later.pop()()
    assert requeued == [True]


@pytest.mark.parametrize("error", [*SHORTAGES, TypeError()], ids=repr)
def test_a_worker_that_cannot_check_its_database_does_not_start(
    error: Exception, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery would start it unchecked, whatever was raised but SystemExit."""
    monkeypatch.setattr("persistence.migrations.head.check_head", raising(error))

    with pytest.raises(SystemExit, match="The database could not be checked"):
        lifecycle._begin(SimpleNamespace(pool_cls="threads"))


def test_the_sweep_timer_goes_on(broker: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that could not be published is a warning."""
    with redis.Redis.from_url(broker) as client:
        for error in SHORTAGES:
            with monkeypatch.context() as patch:
                patch.setattr(app, "send_task", raising(error))
                lifecycle.publish_sweep(app)
        assert client.llen("crawler") == 0
        lifecycle.publish_sweep(app)
        assert client.llen("crawler") == 1


def test_beat_goes_on(broker: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it could not publish is published when it is due again."""
    long_ago = datetime.fromisoformat("2026-01-01T00:00:00Z")
    entry = next(iter(app.conf.beat_schedule.values())) | {"options": {"retry": False}}
    scheduler = Scheduler(app, lazy=True)
    for error in (None, *SHORTAGES, None):
        scheduler.schedule = {"sweep": scheduler.Entry(app=app, name="sweep", last_run_at=long_ago, **entry)}
        scheduler._heap = None
        with monkeypatch.context() as patch:
            if error:
                patch.setattr(app, "send_task", raising(error))
            scheduler.tick()

    with redis.Redis.from_url(broker) as client:
        assert client.llen("crawler") == 2


def test_a_subscription_goes_on(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It connects again, and yields what it had not yielded."""
    monkeypatch.setattr(subscriptions, "_RECONNECT_S", (0.01, 0.01))
    monkeypatch.setattr(subscriptions, "_POLL_S", 0.05)
    lost: list[TransientError] = []
    append(database, "first")
    with Subscription(BEGINNING, lost=lost.append) as subscription:
        events = iter(subscription)
        assert named(next(events)) == "first"
        connection = subscription._connection
        assert connection is not None
        monkeypatch.setattr(connection, "notifies", raising(SHORTAGES[0]))
        connect, left = subscriptions.connect, [SHORTAGES[0]] * 2
        monkeypatch.setattr(
            subscriptions, "connect", lambda *a, **k: raising(left.pop())() if left else connect(*a, **k)
        )
        append(database, "second")
        assert named(next(events)) == "second"

    assert {type(error) for error in lost} <= {ResourcesShort}


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_a_refresh_that_sends_nothing_uses_no_token_up(
    error: Exception, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh token works once: the account's owner would have to authorize again."""
    tokens.die()
    with monkeypatch.context() as patch:
        patch.setattr(oauth, "_ssl_context", raising(error))
        tokens.refresh()
        assert check_token(tokens.gitlab.url, "x", is_oauth=True) is TokenState.UNKNOWN
    assert tokens.gitlab.calls == 0
    assert tokens.world.rows("SELECT FROM credential_refresh") == []

    tokens.world.rows("DELETE FROM periodic_ring")
    tokens.refresh()
    assert tokens.works()


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_new_tokens_wait_for_what_time_cures(
    error: Exception, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They exist in the worker's memory alone."""
    tokens.die()
    settle, left = refresh.settle_refresh, [error] * 2
    monkeypatch.setattr("tasks.runtime.retry._LOST_STEP_S", 0.01)
    monkeypatch.setattr(refresh, "settle_refresh", lambda *a: raising(left.pop())() if left else settle(*a))
    tokens.refresh()

    assert left == []
    assert tokens.gitlab.calls == 1
    assert tokens.works()


@pytest.mark.parametrize("error", [*SHORTAGES, TypeError()], ids=repr)
def test_a_liveness_file_that_cannot_be_updated_costs_no_message(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is updated when a message has been popped, which is then in no list."""
    monkeypatch.setattr(liveness._worker, "file", SimpleNamespace(permit=raising(error)))

    liveness.on_broker_answer()


def raising(error: Exception) -> Any:
    """A function that raises this."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
