"""No secret is stored outside of the table of accounts, whatever message contains it."""

import logging
from collections.abc import Iterator

import pytest

from support.worlds.world import World
from tasks.worker import logs

TOKEN = "glpat-abcdefghij0123456789"


def stored(world: World, table: str) -> str:
    """The contents of a table as text."""
    return str(world.scalar(f"SELECT string_agg(r::text, ' ') FROM {table} r"))


def test_secrets_in_a_crawlers_failure_are_redacted(world: World) -> None:
    """Its error type is redacted in the entry, the error row and the event."""
    crawler, (order,) = world.crawler_with_jobs()

    crawler.fails(order, errorType=f"Refused {TOKEN}", error=TOKEN, stackTrace=TOKEN, context={"a": TOKEN})

    assert world.scalar("SELECT error FROM job_queue").startswith("Refused [redacted]")
    for table in ("job_queue", "job_error_log", "dispatch_event", "job", "job_assignment_mapping"):
        assert TOKEN not in stored(world, table)


def test_secrets_in_an_orders_metadata_are_redacted(world: World) -> None:
    """Tags and metadata are stored without the secrets in them."""
    world.submit(world.order(tags=["weekly", f"by {TOKEN}"], metadata={"note": TOKEN, "password": "opaque"}))

    assert world.scalar("SELECT data -> 'tags' ->> 0 FROM job_queue") == "weekly"
    assert "opaque" not in stored(world, "job_queue")
    assert TOKEN not in stored(world, "job_queue")


def test_secrets_in_a_rejection_are_redacted(world: World) -> None:
    """In its task, message id, detail and payload."""
    with world.unit() as uow:
        uow.rejected.keep(
            task=f"jobs.{TOKEN}", payload=[TOKEN], reason="invalid", detail=f"no {TOKEN}", message_id=TOKEN
        )
        uow.commit()

    assert TOKEN not in stored(world, "rejected_message")
    assert "no [redacted]" in stored(world, "rejected_message")


def test_a_validation_message_does_not_repeat_the_input(world: World) -> None:
    """The input may be a secret that does not look like one."""
    world.submit(world.order(priority="xyzzy-of-ann", branch="xyzzy-of-bob" * 100))

    (detail,) = (detail for (detail,) in world.rows("SELECT detail FROM rejected_message"))
    assert "priority" in detail
    assert "branch" in detail
    assert "xyzzy" not in detail


@pytest.fixture
def handler() -> Iterator[logging.Handler]:
    """The log handler of a worker, uninstalled afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logs._set_up()
    yield root.handlers[0]
    root.handlers[:], root.level = before


def test_secrets_in_log_lines_are_redacted(handler: logging.Handler) -> None:
    """Including those of Celery and its libraries, and the text of exceptions."""
    error = ValueError(f"401 for {TOKEN}")
    trace = (type(error), error, None)
    record = logging.LogRecord("celery", logging.ERROR, "f.py", 1, "task %s failed", (TOKEN,), trace)

    written = handler.format(record)

    assert "task [redacted] failed" in written
    assert "ValueError" in written
    assert TOKEN not in written
