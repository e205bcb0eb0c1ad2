"""Whatever a message holds, its texts are redacted while no transaction is open: one would hold its locks for long."""

from collections.abc import Callable
from typing import Any

import pytest
from ulid import ULID

from persistence.sanitize import text as sanitized
from persistence.unit_of_work import UnitOfWork
from support.worlds.discoveries import Discoverer, project
from support.worlds.world import World
from tasks.runtime.batches import derived_id

LONG = "password=%41&token: x " * 100
LONG_NAME = "a1 b2 c3 d4 " * 16
MANY = 12

Message = tuple[str, dict[str, Any]]


def bad_failures(_: World) -> Message:
    """Errors of no job."""
    return "failures.log", {"errors": [{"error_message": LONG, "n": n} for n in range(MANY)]}


def unknown_failures(_: World) -> Message:
    """Errors of jobs that do not exist."""
    errors = [{"error_type": "Odd", "error_message": LONG, "job_id": str(ULID())} for _ in range(MANY)]
    return "failures.log", {"errors": errors}


def failures(world: World) -> Message:
    """Errors with many long texts."""
    (job,) = world.jobs(1)
    texts = {"error_message": LONG, "stack_trace": LONG, "context": {"text": LONG}}
    return "failures.log", {
        "errors": [{"error_type": LONG_NAME, "job_id": job, **texts} for _ in range(MANY)]
    }


def bad_orders(_: World) -> Message:
    """Orders without an account."""
    return "jobs.submit", {"orders": [{"metadata": {"text": LONG}} for _ in range(MANY)]}


def unknown_orders(world: World) -> Message:
    """Orders of an account that does not exist."""
    orders = [
        world.order(account_id="nobody", metadata={"text": LONG}, tags=[LONG[:200]]) for _ in range(MANY)
    ]
    return "jobs.submit", {"orders": orders}


def orders(world: World) -> Message:
    """Orders with long metadata."""
    return "jobs.submit", {"orders": [world.order(metadata={"text": LONG}) for _ in range(3)]}


def bad_ids(_: World) -> Message:
    """Texts that are no ids."""
    return "jobs.enqueue", {"job_ids": [LONG] * MANY}


def bad_beats(world: World) -> Message:
    """Heartbeats with an unknown field, beside a good one."""
    crawler = world.crawler()
    beats = [{"connection_id": crawler.id, "said": LONG} for _ in range(MANY)]
    return "connections.heartbeat", {"beats": [*beats, {"connection_id": crawler.id}]}


def bad_links(world: World) -> Message:
    """Links without a number."""
    return "connections.attach", {"links": [{"connection_id": world.crawler().id, "said": LONG}] * MANY}


def registration(_: World) -> Message:
    """A registration with long metadata."""
    return "connections.register", {
        "connection_id": str(ULID()),
        "crawler_id": LONG_NAME,
        "metadata": {"text": LONG},
    }


def bad_discoveries(world: World) -> Message:
    """A discovery of things that are none."""
    discoverer = Discoverer.at_work(world)
    found = [project("a", n) | {"job_type": "crawl_moon", "said": LONG} for n in range(1, MANY)]
    return "crawler.frames", {"frames": [discoverer.frame(*found, project("b", 1))]}


def names(world: World) -> Message:
    """Progress that counts things with long names, and resumes at long ids."""
    crawler, (order,) = world.crawler_with_jobs()
    at = {"stage": "fetching", "entityType": LONG_NAME, "processed": 1, "total": 2}
    frames = [
        crawler.frame(
            "job_progress",
            order,
            **at,
            itemCounts={f"{LONG_NAME}{n}-{m}": 1 for m in range(5)},
            resumeState={"lastEntityId": LONG[:900], "entityType": LONG_NAME},
        )
        for n in range(40)
    ]
    end = {"error": "it", "errorType": LONG_NAME, "isRecoverable": True, "partialCounts": {LONG_NAME: 1}}
    return "crawler.frames", {"frames": [*frames, crawler.frame("job_failed", order, **end)]}


def resolution(world: World) -> Message:
    """What an operator says of a group of errors."""
    (job,) = world.jobs(1)
    world.deliver("failures.log", errors=[{"error_type": "Odd", "error_message": "m", "job_id": job}])
    group = world.scalar("SELECT fingerprint FROM job_error_log")
    return "failures.resolve", {"error_group": group, "resolution": LONG}


def pause_of_an_account(world: World) -> Message:
    """Why an account is paused that has a live attempt."""
    world.crawler_with_jobs()
    return "jobs.pause", {"account_id": "acc", "reason": LONG}


def pause_of_jobs(world: World) -> Message:
    """Why a job is paused."""
    world.crawler_with_jobs()
    return "jobs.pause", {"job_ids": [world.scalar("SELECT id FROM job")], "reason": LONG}


def cancellation(world: World) -> Message:
    """Why a job is cancelled."""
    world.crawler_with_jobs()
    return "jobs.cancel", {"job_ids": [world.scalar("SELECT id FROM job")], "reason": LONG}


MESSAGES = [
    resolution,
    pause_of_an_account,
    pause_of_jobs,
    cancellation,
    bad_failures,
    unknown_failures,
    failures,
    bad_orders,
    unknown_orders,
    orders,
    bad_ids,
    bad_beats,
    bad_links,
    registration,
    bad_discoveries,
    names,
]


@pytest.mark.parametrize("prepare", MESSAGES, ids=lambda prepare: prepare.__name__)
def test_texts_are_redacted_outside_of_transactions(
    world: World, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[World], Message]
) -> None:
    """What is refused has its row all the same, and its payload or the word that it is not kept."""
    task, payload = prepare(world)
    open_units = watch_units(monkeypatch)
    seen: list[int] = []
    once = sanitized._redacted_once

    def watched(text: str, *rest: Any) -> str:
        if "password" in text or "a1 b2" in text:
            seen.append(len(open_units))
        return once(text, *rest)

    monkeypatch.setattr(sanitized, "_redacted_once", watched)

    world.deliver(task, **payload)

    assert seen
    assert set(seen) == {0}
    assert world.rows("SELECT reason FROM rejected_message WHERE reason = 'failed'") == []
    assert world.rows("SELECT id FROM rejected_message WHERE payload IS NULL AND NOT sampled_out") == []
    assert world.rows("SELECT message_id FROM handled_message WHERE NOT done") == []


def watch_units(monkeypatch: pytest.MonkeyPatch) -> set[UnitOfWork]:
    """The units of work that are open at any moment, and have begun a transaction."""
    units: set[UnitOfWork] = set()
    enter, leave = UnitOfWork.__enter__, UnitOfWork.__exit__

    def entered(uow: UnitOfWork) -> UnitOfWork:
        units.add(uow)
        return enter(uow)

    def left(uow: UnitOfWork, *error: Any) -> Any:
        units.discard(uow)
        return leave(uow, *error)

    monkeypatch.setattr(UnitOfWork, "__enter__", entered)
    monkeypatch.setattr(UnitOfWork, "__exit__", left)
    return units


def test_refused_items_of_a_discovery_are_stored_after_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The discovery is applied by then; what it refused is found again by its place."""
    discoverer = Discoverer.at_work(world)
    bad = [project("a", n) | {"job_type": "crawl_moon"} for n in (1, 2)]
    frames = [discoverer.crawler.frame("heartbeat"), discoverer.frame(bad[0], project("b", 1), bad[1])]
    message = str(ULID())
    commit, left = UnitOfWork.commit, [2]

    def dying(uow: UnitOfWork) -> None:
        if not left[0]:
            raise WorkerDied
        left[0] -= 1
        commit(uow)

    monkeypatch.setattr(UnitOfWork, "commit", dying)
    with pytest.raises(WorkerDied):
        world.sends(*frames, message=message)
    assert world.scalar("SELECT count(*) FROM rejected_message WHERE payload IS NULL") == 2
    left[0] = 100

    world.sends(*frames, message=message)

    rows = world.rows("SELECT id, payload #>> '{item,entity_id}' FROM rejected_message ORDER BY 2")
    assert rows == [(derived_id(message, f"1.{place}"), str(n)) for place, n in ((0, 1), (2, 2))]
    assert world.scalar("SELECT payload #>> '{item,job_type}' FROM rejected_message LIMIT 1") == "crawl_moon"
    assert world.scalar("SELECT count(*) FROM area") == 1


class WorkerDied(BaseException):
    """Stands for SIGKILL between two units."""
