"""A worker with a wrong clock does not disturb the redelivery of unacknowledged messages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest
from kombu import Connection
from kombu.transport import redis as kombu_redis

from support.processes.workers import Valkey, running, wait_until
from tasks.worker import acks, transport

VISIBLE_AFTER_S = 2
QUEUE = "crawler"
HOUR_S = 3600.0

Open = Callable[[float], Any]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """An empty server."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


@pytest.fixture
def open_channel(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open a channel like a worker whose clock is off by so many seconds, until the next one is opened."""
    transport.register()
    opened: list[Connection] = []

    def open_(off: float) -> Any:
        for module in (kombu_redis, acks):
            monkeypatch.setattr(module, "time", lambda: time() + off)
        options = {"visibility_timeout": VISIBLE_AFTER_S, "unacked_restore_throttle": 1}
        opened.append(Connection(valkey.url, transport_options=options))
        channel = opened[-1].channel()
        channel.queue_declare(QUEUE)
        return channel

    yield open_
    for connection in opened:
        connection.close()


def publish(channel: Any) -> None:
    """Put a message into the queue."""
    channel.basic_publish(channel.prepare_message("message", properties={}), exchange="", routing_key=QUEUE)


@pytest.mark.parametrize("off", [HOUR_S, -HOUR_S])
def test_an_unacknowledged_message_is_not_redelivered_because_of_a_wrong_clock(
    off: float, valkey: Valkey, open_channel: Open
) -> None:
    """A worker whose clock is an hour ahead takes no message from a live one."""
    holder = open_channel(min(off, 0.0))
    publish(holder)
    assert holder.basic_get(QUEUE) is not None

    open_channel(max(off, 0.0)).qos.restore_visible(interval=1)

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (0, 1)


@pytest.mark.parametrize("off", [HOUR_S, 0.0])
def test_a_message_of_a_dead_worker_is_redelivered_despite_a_wrong_clock(
    off: float, valkey: Valkey, open_channel: Open
) -> None:
    """It comes back after the visibility timeout, even if the dead worker's clock was an hour ahead."""
    holder = open_channel(off)
    publish(holder)
    assert holder.basic_get(QUEUE) is not None
    other = open_channel(0.0)

    def comes_back() -> bool:
        other.qos.restore_visible(interval=1)
        return bool(valkey.client.llen(QUEUE))

    wait_until(comes_back, "the message is in its queue", patience=10)
    assert valkey.client.hlen("unacked") == 0
