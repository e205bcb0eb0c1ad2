"""jobs.prioritize: another priority, for entries that wait and for those that may wait again."""

from typing import Any

import pytest
from ulid import ULID

from support.worlds.stages import STAGES, at_every_stage, stand
from support.worlds.world import World
from tasks.jobs import selections
from tasks.runtime import chunks


def prioritize(world: World, priority: object, message: str | None = None, **selection: Any) -> None:
    """Deliver jobs.prioritize."""
    world.deliver("jobs.prioritize", message, priority=priority, **selection)


def priorities(world: World) -> dict[str, int]:
    """The priority of every entry, by its job."""
    return dict(tuple(row) for row in world.rows("SELECT web_app_job_id, priority FROM job_queue"))


def test_every_open_entry_gets_the_priority(world: World) -> None:
    """Parked, backed-off and processing entries too; nothing else changes, and each has an event."""
    jobs = at_every_stage(world)
    events_before = len(world.events("job_updated"))

    prioritize(world, 7, job_ids=[*jobs.values(), str(ULID())])

    ended = ("finished", "failed", "cancelled")
    assert priorities(world) == {id_: 1 if stage in ended else 7 for stage, id_ in jobs.items()}
    assert {stage: stand(world, job_id) for stage, job_id in jobs.items()} == STAGES
    assert sorted(
        (e.job_id, e.account_id, e.payload["priority"]) for e in world.events("job_updated")[events_before:]
    ) == (sorted((id_, "acc", 7) for stage, id_ in jobs.items() if stage not in ended))
    assert all(e.payload == {"priority": 7} for e in world.events("job_updated")[events_before:])
    assert len(world.events("job_revoked")) == 1  # of the job that was cancelled before
    assert world.published.messages == []


def test_the_next_round_uses_the_priority(world: World) -> None:
    """The last job is assigned first."""
    first, *_, last = world.jobs(4)
    prioritize(world, 2, job_ids=[last])
    prioritize(world, -1, job_ids=[first])
    world.crawler(capacity=3)

    world.assign()

    assert (len(world.attempts(last)), len(world.attempts(first))) == (1, 0)


def test_an_unchanged_priority_adds_no_event(world: World) -> None:
    """No entry changes."""
    ids = world.jobs(2, priority=3)

    prioritize(world, 3, job_ids=ids)

    assert world.events("job_updated") == []


def test_a_prioritize_interrupted_between_chunks_continues(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redelivery skips the jobs that have the priority already; after the last chunk it changes nothing."""
    monkeypatch.setattr(selections, "CHUNK_JOBS", 3)
    monkeypatch.setattr(chunks, "TIME_LIMIT_S", 0)
    message = str(ULID())
    world.jobs(7)
    for changed in (3, 6, 7):
        prioritize(world, 5, message, account_id="acc")
        assert sum(priority == 5 for priority in priorities(world).values()) == changed

    (later,) = world.jobs(1)
    prioritize(world, 5, message, account_id="acc")

    assert priorities(world)[later] == 1


@pytest.mark.parametrize("priority", [None, 1_000_001, "high", 1.5, True])
def test_an_invalid_priority_is_rejected(world: World, priority: object) -> None:
    """The entry keeps its priority."""
    (job_id,) = world.jobs(1)

    prioritize(world, priority, job_ids=[job_id])

    assert world.rejections() == [("jobs.prioritize", "invalid")]
    assert priorities(world) == {job_id: 1}
