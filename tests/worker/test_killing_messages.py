"""No message ends a worker by its size; one that ends it in another way is kept after a bounded number of deaths."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persistence.db.json_bounds import MAX_BYTES
from support.processes.workers import Valkey, Worker, envelope, running, wait_until
from tasks.worker.envelope import MAX_DELIVERIES

pytestmark = pytest.mark.programs

APP = "support.processes.worker_app"

MEMORY_MIB = 320
"""What a worker may allocate once it has started. A body of the largest size takes it 150, parsed lists over 1,000."""

FRAME = {"type": "heartbeat", "unknown": [[]] * 260_000}
"""Just under 1 MiB of empty lists."""

FEW = {"BROKER_OPTIONS": json.dumps({"visibility_timeout": 1, "unacked_restore_interval": 0.5})}
"""A dead worker's messages are put back at once."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """An empty server."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


def push(valkey: Valkey, **kwargs: Any) -> str:
    """Publish frames as a bare producer does; returns the message's id."""
    message = envelope("crawler.frames", kwargs)
    valkey.client.lpush("crawler", json.dumps(message))
    return str(message["headers"]["id"])


def notes(valkey: Valkey, name: str) -> list[dict[str, Any]]:
    """The notes that the app wrote."""
    return [json.loads(note) for note in valkey.client.lrange(name, 0, -1)]


@pytest.mark.parametrize(("count", "pool"), [(25, "prefork"), (15, "prefork"), (15, "threads"), (25, "solo")])
def test_frames_of_empty_lists_are_rejected_and_their_worker_survives(
    count: int, pool: str, valkey: Valkey, tmp_path: Path
) -> None:
    """Too many bytes are refused by the main process, too many values before they are parsed; others are served."""
    assert len(json.dumps(FRAME)) * 15 < MAX_BYTES < len(json.dumps(FRAME)) * 25
    worker = Worker(APP, valkey.url, tmp_path / "log", pool, MEMORY_MIB=str(MEMORY_MIB))
    with running(worker):
        hostile = push(valkey, frames=[FRAME] * count)
        honest = push(valkey, frames=[1])

        [kept] = wait_until(lambda: notes(valkey, "kept"), "it is kept")
        wait_until(lambda: notes(valkey, "seen"), "the next is seen")
        wait_until(lambda: not valkey.client.exists("crawler", "unacked"), "all is acknowledged")
        assert worker.lives()
        assert "child_lost" not in worker.output()
    # A text of more bytes than the largest body has is not read at all.
    assert (kept["reason"], kept["message_id"]) == ("too_large", hostile if count < 25 else None)
    assert [note["id"] for note in notes(valkey, "seen")] == [honest]


def test_a_text_larger_than_the_memory_is_rejected_and_its_worker_survives(
    valkey: Valkey, tmp_path: Path
) -> None:
    """Redis accepts 512 MiB; only as much as the largest message has is read of it."""
    worker = Worker(APP, valkey.url, tmp_path / "log", MEMORY_MIB=str(MEMORY_MIB))
    with running(worker):
        valkey.client.lpush("crawler", b"[" + b"[]," * (100 * 2**20) + b"[]]")
        valkey.client.publish("/0.celery.pidbox", b"[" + b"[]," * (6 * 2**20) + b"[]]")
        honest = push(valkey, frames=[1])

        wait_until(lambda: notes(valkey, "seen"), "the next is seen")
        wait_until(lambda: not valkey.client.exists("crawler", "unacked"), "all is acknowledged")
        wait_until(lambda: "control_message_dropped" in worker.output(), "the control message is dropped")
        assert worker.lives()
    assert [note["reason"] for note in notes(valkey, "kept")] == ["too_large"]
    assert [note["id"] for note in notes(valkey, "seen")] == [honest]


@pytest.mark.parametrize("dies_of", ["the body", "the text"])
@pytest.mark.gate
def test_a_message_that_keeps_killing_workers_is_kept_as_rejected(
    dies_of: str, valkey: Valkey, tmp_path: Path
) -> None:
    """
    Each death counts, also one while the text is read for the first time, and the others are served meanwhile.

    A text that kills its reader itself is read once more than one that kills later, for its id.
    """
    body = json.dumps([[], {"frames": ["kills its reader"]}, {}])
    killer = envelope("crawler.frames", body=body.encode())
    if dies_of == "the text":
        killer |= {"body": body, "properties": {}}
    valkey.client.lpush("crawler", json.dumps(killer))
    expected = MAX_DELIVERIES + (dies_of == "the text")
    for death in range(1, expected + 1):
        worker = Worker(APP, valkey.url, tmp_path / f"log{death}", wait=False, **FEW)
        with running(worker):
            wait_until(lambda death=death: valkey.client.get("reader_deaths") == str(death), "it dies")
            worker.wait()
        assert notes(valkey, "kept") == []
        push(valkey, frames=[death])
    with running(Worker(APP, valkey.url, tmp_path / "log", **FEW)):
        [kept] = wait_until(lambda: notes(valkey, "kept"), "it is kept")
        wait_until(lambda: len(notes(valkey, "seen")) == expected, "the others are seen")
        wait_until(lambda: not valkey.client.exists("crawler", "unacked"), "all is acknowledged")
    assert (kept["reason"], kept["detail"]) == ("worker_lost", f"{expected} workers died with it in hand")
    assert int(valkey.client.get("reader_deaths")) == expected
    if dies_of == "the body":
        assert (kept["task"], kept["message_id"]) == ("crawler.frames", killer["headers"]["id"])
    assert "kills its reader" in json.dumps(kept["payload"])
