"""In a pool of threads no message keeps its slot, whatever Celery's own code around a task raises."""

from collections.abc import Iterator

import pytest
from billiard.einfo import ExceptionInfo

from support.worlds.deliveries import Deliveries
from support.worlds.world import World
from tasks.app import app
from tasks.runtime import stopping, thread_pool
from tasks.runtime.thread_pool import ThreadPool
from tasks.worker.request import Request

POOLS = ("threads", "prefork")


@pytest.fixture
def deliveries(world: World, monkeypatch: pytest.MonkeyPatch) -> Deliveries:
    """Deliveries to our tasks."""
    app.loader.import_default_modules()
    return Deliveries(app, monkeypatch)


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """A pool of one thread."""
    running = ThreadPool(limit=1)
    yield running
    running.on_stop()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")], ids=repr)
def test_what_the_tracer_raises_runs_the_message_again(
    pool: str, error: Exception, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery's tracer passes a MemoryError on; in a thread nobody got it, and the message was nowhere."""

    def trace(*_: object) -> None:
        raise error

    monkeypatch.setattr(app.tasks["jobs.assign"], "__trace__", trace)
    outcome = deliveries.deliver(pool, "jobs.assign", "m")
    assert outcome.name == "run again"
    assert [headers["retries"] for headers in outcome.published] == [1]
    assert outcome.acknowledged


def test_a_message_that_was_acknowledged_is_not_run_again(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only the handling of its result fails."""

    def acknowledge(request: Request) -> None:
        request.acknowledged = True
        raise MemoryError

    task = app.tasks["jobs.assign"]
    monkeypatch.setattr(task, "__trace__", lambda *_: (None, None, 0.0, None))
    monkeypatch.setattr(Request, "acknowledge", acknowledge)
    outcome = deliveries.deliver("threads", "jobs.assign", "m")
    assert (outcome.name, outcome.published) == ("nowhere", [])  # it was acknowledged behind its back


def _short(*_: object, **__: object) -> None:
    raise MemoryError


def test_a_report_for_which_memory_is_short_is_repeated(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is there, or the worker stops."""
    monkeypatch.setattr(thread_pool, "_PAUSE_S", 0.0)
    reports: list[ExceptionInfo] = []

    def report(info: ExceptionInfo) -> None:
        reports.append(info)
        if len(reports) < 3:
            raise MemoryError

    pool.on_apply(_short, error_callback=report).get()
    assert [type(info.exception.exc) for info in reports] == [MemoryError] * 3

    monkeypatch.setattr(stopping, "is_stopping", lambda: True)
    del reports[:]
    with pytest.raises(MemoryError):
        pool.on_apply(_short, error_callback=report).get()
    assert len(reports) == 1
