"""`failures.resolve` resolves all errors of a group, and none that is logged later."""

from typing import Any

import pytest
from ulid import ULID

from support.worlds.world import World
from tasks.error_log import resolve as resolution

OTHER = "0123456789abcdef"


def log(world: World, job_id: str, *, times: int = 1, message: str = "it broke") -> str:
    """Log an error this many times; its fingerprint."""
    error = {"job_id": job_id, "error_type": "TypeError", "error_message": message}
    world.deliver("failures.log", errors=[error] * times)
    return str(
        world.scalar("SELECT fingerprint FROM job_error_log WHERE error_message = :m LIMIT 1", m=message)
    )


def resolve(world: World, group: str, text: str = "deployed 1.2", message: str | None = None) -> None:
    """Deliver failures.resolve."""
    world.deliver("failures.resolve", message, error_group=group, resolution=text)


def resolutions(world: World) -> list[tuple[Any, ...]]:
    """The number of errors by message and resolution."""
    rows = world.rows(
        "SELECT error_message, resolution, count(*) FROM job_error_log GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


def test_all_errors_of_a_group_are_resolved(world: World) -> None:
    """Errors of all jobs are resolved; other groups, jobs and entries are unchanged, and nothing is published."""
    one, two = world.jobs(2)
    group = log(world, one)
    log(world, two, message="it broke ")
    log(world, two, message="it fell")
    before = world.snapshot()
    world.published.messages.clear()

    resolve(world, group)

    assert resolutions(world) == [
        ("it broke", "deployed 1.2", 1),
        ("it broke ", "deployed 1.2", 1),
        ("it fell", None, 1),
    ]
    assert world.snapshot() == before
    assert world.published.messages == []


def test_a_later_error_is_not_resolved(world: World) -> None:
    """The group is listed again, and resolving the rest keeps the earlier resolution."""
    (job_id,) = world.jobs(1)
    group = log(world, job_id, times=2)
    resolve(world, group, "deployed 1.2")
    log(world, job_id)
    assert resolutions(world) == [("it broke", "deployed 1.2", 2), ("it broke", None, 1)]

    resolve(world, group, "deployed 1.3")

    assert resolutions(world) == [("it broke", "deployed 1.2", 2), ("it broke", "deployed 1.3", 1)]


def test_an_error_added_between_chunks_is_not_resolved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery ends however many errors are added."""
    monkeypatch.setattr(resolution, "CHUNK_ERRORS", 2)
    (job_id,) = world.jobs(1)
    group = log(world, job_id, times=5)
    resolve_chunk = resolution.Resolution.resolve_chunk

    def and_another(self: resolution.Resolution, uow: Any, place: str) -> Any:
        done = resolve_chunk(self, uow, place)
        log(world, job_id, times=2)
        return done

    monkeypatch.setattr(resolution.Resolution, "resolve_chunk", and_another)

    resolve(world, group)

    assert resolutions(world) == [("it broke", "deployed 1.2", 5), ("it broke", None, 6)]


def test_a_large_group_is_resolved_in_chunks(world: World) -> None:
    """A thousand at a time, until none is left."""
    (job_id,) = world.jobs(1)
    group = log(world, job_id, times=2003)

    resolve(world, group)

    assert resolutions(world) == [("it broke", "deployed 1.2", 2003)]
    assert world.rows("SELECT count(*) FROM job_error_log GROUP BY xmin::text ORDER BY 1") == [
        (3,),
        (1000,),
        (1000,),
    ]


def test_a_resolution_interrupted_between_chunks_continues_on_redelivery(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All errors are resolved in the end; a further delivery resolves nothing."""
    monkeypatch.setattr(resolution, "CHUNK_ERRORS", 3)
    monkeypatch.setattr("tasks.runtime.chunks.TIME_LIMIT_S", 0)
    (job_id,) = world.jobs(1)
    group, message = log(world, job_id, times=8), str(ULID())
    for resolved in (3, 6, 8):
        resolve(world, group, "x", message)
        assert world.scalar("SELECT count(*) FROM job_error_log WHERE resolution = 'x'") == resolved

    log(world, job_id, times=4)
    resolve(world, group, "x", message)

    assert resolutions(world) == [("it broke", "x", 8), ("it broke", None, 4)]


def test_secrets_in_a_resolution_are_not_stored(world: World) -> None:
    """The text of a resolution is redacted."""
    (job_id,) = world.jobs(1)

    resolve(world, log(world, job_id), "put glpat-abcdefghij0123456789 in place")

    assert resolutions(world) == [("it broke", "put [redacted] in place", 1)]


def test_an_unknown_group_is_ignored(world: World) -> None:
    """Nothing is resolved or rejected."""
    log(world, *world.jobs(1))

    resolve(world, OTHER)

    assert resolutions(world) == [("it broke", None, 1)]
    assert world.rejections() == []


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"error_group": OTHER},
        {"error_group": OTHER, "resolution": ""},
        {"error_group": OTHER, "resolution": "x" * 20_001},
        {"error_group": OTHER.upper(), "resolution": "x"},
        {"error_group": OTHER + "0", "resolution": "x"},
        {"error_group": [OTHER], "resolution": "x"},
        {"error_group": OTHER, "resolution": "x", "job_ids": []},
    ],
)
def test_an_invalid_resolution_is_rejected(world: World, payload: dict[str, Any]) -> None:
    """A resolution needs a group and a text."""
    world.deliver("failures.resolve", **payload)

    assert world.rejections() == [("failures.resolve", "invalid")]
