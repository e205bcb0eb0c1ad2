"""Junk beside honest frames costs its sender: what is honest commits first, and junk is stored within bounds."""

import time
from typing import Any

import pytest
from ulid import ULID

from persistence.unit_of_work import UnitOfWork
from support.worlds.world import Crawler, World
from tasks.runtime.batches import derived_id
from tasks.sanitize import refused, texts

JUNK_TEXT = "password=%41&token: x " * 3000


def junk(crawler: Crawler, number: int, text: str = JUNK_TEXT) -> list[dict[str, Any]]:
    """Items that are no frames."""
    return [
        {"connection_id": crawler.id, "frame": {"type": "junk", "n": n, "text": text}} for n in range(number)
    ]


class WorkerDied(BaseException):
    """Stands for SIGKILL between two units."""


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts commits; after `left` of them, the worker dies."""
    state = {"left": 1_000_000, "done": 0}
    commit = UnitOfWork.commit

    def counted(uow: UnitOfWork) -> None:
        if state["left"] == 0:
            raise WorkerDied
        commit(uow)
        state["left"] -= 1
        state["done"] += 1

    monkeypatch.setattr(UnitOfWork, "commit", counted)
    return state


def test_honest_frames_beside_a_thousand_junk_frames_commit_within_a_heartbeat(
    world: World, commits: dict[str, int]
) -> None:
    """By the first commit, before any junk is redacted."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.silent_for(60)
    done = crawler.frame("job_completed", order, success=True, final_counts={})
    commits["left"] = 1
    start = time.process_time()

    with pytest.raises(WorkerDied):
        world.sends(done, *junk(crawler, 1000, JUNK_TEXT[:14_000]))

    assert time.process_time() - start < 5
    assert world.scalar("SELECT status FROM job") == "finished"
    assert world.scalar("SELECT last_heartbeat > now() - interval '30 s' FROM socket_connection")
    assert world.rows("SELECT applied, done FROM handled_message WHERE NOT done") == [(True, False)]


def test_a_message_whose_worker_died_between_its_units_is_continued(
    world: World, commits: dict[str, int]
) -> None:
    """Each refused item has its payload once; nothing is applied again."""
    crawler, (order,) = world.crawler_with_jobs()
    items = [*junk(crawler, 12, "some words " * 5000), crawler.frame("job_started", order)]
    message = str(ULID())

    for units in (1, 1, 1_000_000):
        commits["left"] = units
        try:
            world.sends(*items, message=message)
        except WorkerDied:
            assert (
                world.scalar("SELECT done FROM handled_message WHERE message_id = :id", id=message) is False
            )
            assert world.scalar("SELECT count(*) FROM rejected_message") == 12

    assert world.scalar("SELECT done FROM handled_message WHERE message_id = :id", id=message) is True
    assert world.rows("SELECT id FROM rejected_message WHERE payload IS NULL") == []
    ids = {id_ for (id_,) in world.rows("SELECT id FROM rejected_message")}
    assert ids == {derived_id(message, position) for position in range(12)}
    assert world.scalar("SELECT stale_words FROM job_assignment_mapping") == 0


def test_more_junk_than_is_stored_of_one_message_is_sampled_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows stay, with digest and length, and say that their payloads were not kept; small items come first."""
    monkeypatch.setattr(refused, "MAX_BYTES", 100_000)
    crawler = world.crawler()

    world.sends(*junk(crawler, 5), *junk(crawler, 1, "small"))

    rows = world.rows(
        "SELECT payload IS NULL, sampled_out, length(digest), sent_bytes > 0, detail LIKE '%not kept%'"
        "  FROM rejected_message ORDER BY sampled_out"
    )
    assert len(rows) == 6
    assert rows[0] == (False, False, 64, True, False)
    assert rows[-1] == (True, True, 64, True, True)
    assert world.scalar("SELECT count(*) FROM rejected_message WHERE sampled_out") == 3
    assert (
        world.scalar("SELECT payload -> 'frame' ->> 'text' FROM rejected_message WHERE sent_bytes < 200")
        == "small"
    )
    assert world.scalar("SELECT sum(bytes) FROM rejected_message") == world.scalar(
        "SELECT bytes FROM rejected_count WHERE connection_id = '*'"
    )


def test_redacting_junk_ends_with_its_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is sampled out, and the message is done."""
    monkeypatch.setattr(refused, "MAX_SECONDS", 0.0)
    crawler = world.crawler()

    world.sends(*junk(crawler, 3))

    assert world.scalar("SELECT count(*) FROM rejected_message WHERE sampled_out AND payload IS NULL") == 3
    assert world.rows("SELECT * FROM handled_message WHERE NOT done") == []


def test_no_transaction_is_open_while_junk_is_redacted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle transaction holds locks, and the server ends it."""
    crawler = world.crawler()
    open_now = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE state = 'idle in transaction' AND datname = current_database()"
    )
    storable, seen = refused.storable, []
    monkeypatch.setattr(
        refused,
        "storable",
        lambda *args, **named: (seen.append(world.scalar(open_now)), storable(*args, **named))[1],
    )

    world.sends(*junk(crawler, 3))

    assert seen == [0, 0, 0]


def test_many_texts_of_honest_frames_are_redacted_before_their_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a budget, the smallest first; a frame whose text is not kept is applied all the same."""
    monkeypatch.setattr(texts, "MAX_LETTERS", 150_000)
    crawler, orders = world.crawler_with_jobs(3)
    errors = ["token=abcdefgh small", "token=abcdefgh " + "x " * 40_000, "token=abcdefgh " + "y " * 50_000]
    error = {"isRecoverable": True, "errorType": "Odd", "context": {"password": "hunter2"}}

    world.sends(
        *(
            crawler.frame("job_failed", order, error="of it", stackTrace=trace, **error)
            for order, trace in zip(orders, errors, strict=True)
        )
    )

    rows = world.rows(
        "SELECT stack_trace, context ->> 'password' FROM job_error_log ORDER BY length(stack_trace)"
    )
    assert rows[0] == ("token=[redacted] small", "[redacted]")
    assert rows[1][0] == texts.OMITTED
    assert rows[2][0].startswith("token=[redacted] x")
    assert world.scalar("SELECT count(*) FROM job_assignment_mapping WHERE status = 'failed'") == 3
