"""A worker whose descriptors run out loses no message, and rejects none that waiting would have helped."""

import json
from pathlib import Path

import pytest
import redis
from ulid import ULID

from support.processes.workers import Worker, envelope, running, wait_until
from support.worlds.world import World

VALID, INVALID = 24, 8

pytestmark = pytest.mark.programs

_HANDLED = "SELECT count(*) FROM socket_connection"
_KEPT = "SELECT count(*) FROM rejected_message"
_END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def push(client: "redis.Redis[bytes]", **surprise: int) -> None:
    """Publish one message."""
    payload = {"connection_id": str(ULID())} | surprise
    client.lpush("crawler", json.dumps(envelope("connections.register", payload)))


def test_a_worker_without_descriptors_loses_no_message(
    world: World, database: str, broker: str, tmp_path: Path
) -> None:
    """
    Its units wait, and each message is handled or, if no task can process it, kept when there are descriptors again.

    The threads share the descriptors with the worker's main process, which does not end either.
    """
    app = "support.processes.exhausted_app"
    worker = Worker(app, broker, tmp_path / "worker", "threads", 4, DATABASE_URL=database)
    with running(worker), redis.Redis.from_url(broker) as client:
        push(client)
        wait_until(lambda: world.scalar(_HANDLED), "it consumes")
        client.set("exhausted", 1)
        wait_until(lambda: client.exists("taken"), "no descriptor is left")
        world.rows(_END_SESSIONS)
        for _ in range(VALID):
            push(client)
        for _ in range(INVALID):
            push(client, surprise=1)
        wait_until(lambda: worker.output().count("retry_in_s") >= 8, "units wait")
        assert world.scalar(_KEPT) == 0

        client.delete("exhausted")

        wait_until(lambda: world.scalar(_HANDLED) == 1 + VALID, "each valid one is handled")
        wait_until(lambda: world.scalar(_KEPT) == INVALID, "each invalid one is kept")
        wait_until(lambda: not client.exists("crawler", "unacked"), "each is acknowledged")
        assert worker.output().count("message_rejected") == INVALID
        assert worker.lives()
