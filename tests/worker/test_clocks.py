"""Messages in hand, and the clocks of the workers that hold them: a clock that is off gives nothing away too early."""

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
    """Opens a channel as a worker does whose clock is off by so many seconds; as long as no other is opened."""
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


def say(channel: Any) -> None:
    """Put a message into the queue."""
    channel.basic_publish(channel.prepare_message("word", properties={}), exchange="", routing_key=QUEUE)


@pytest.mark.parametrize("off", [HOUR_S, -HOUR_S])
def test_an_unacknowledged_message_is_not_redelivered_because_of_a_wrong_clock(
    off: float, valkey: Valkey, open_channel: Open
) -> None:
    """Neither by a worker that is ahead of the one that holds it, nor by one that it is behind."""
    holder = open_channel(min(off, 0.0))
    say(holder)
    assert holder.basic_get(QUEUE) is not None

    open_channel(max(off, 0.0)).qos.restore_visible(interval=1)

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (0, 1)


@pytest.mark.parametrize("off", [HOUR_S, 0.0])
def test_a_message_of_a_dead_worker_is_redelivered_despite_a_wrong_clock(
    off: float, valkey: Valkey, open_channel: Open
) -> None:
    """In its time, where the dead one was an hour ahead of whoever looks."""
    holder = open_channel(off)
    say(holder)
    assert holder.basic_get(QUEUE) is not None
    other = open_channel(0.0)

    def comes_back() -> bool:
        other.qos.restore_visible(interval=1)
        return bool(valkey.client.llen(QUEUE))

    wait_until(comes_back, "the message is in its queue", patience=10)
    assert valkey.client.hlen("unacked") == 0
