"""Messages that a full Redis did not record as unacknowledged are still requeued."""

import errno
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection
from redis.exceptions import ConnectionError as BrokerLost
from redis.exceptions import OutOfMemoryError

from support.processes.workers import Valkey, running
from tasks.worker import acks, transport

QUEUE = "crawler"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """An empty server."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


@pytest.fixture
def channel(valkey: Valkey) -> Iterator[Any]:
    """A worker's channel with one message in its queue."""
    transport.register()
    with Connection(valkey.url) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE)
        channel.basic_publish(
            channel.prepare_message("message", properties={}), exchange="", routing_key=QUEUE
        )
        yield channel


def pop_unrecorded(valkey: Valkey, channel: Any) -> str:
    """Pop the message while Redis is full; returns its tag."""
    valkey.client.config_set("maxmemory", 1)
    message = channel.basic_get(QUEUE)
    valkey.client.config_set("maxmemory", 0)
    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (0, 0)
    return str(message.delivery_tag)


def test_a_message_not_recorded_by_a_full_redis_is_requeued(valkey: Valkey, channel: Any) -> None:
    """The record is written first, because kombu requeues what it contains."""
    channel.basic_reject(pop_unrecorded(valkey, channel), requeue=True)

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (1, 0)


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EMFILE, "x"), BrokerLost(), TypeError()], ids=repr
)
def test_a_message_that_cannot_be_recorded_is_passed_on(
    error: Exception, valkey: Valkey, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps it from being recorded: it is in no list any more. It is requeued like any other."""

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(channel.qos, "_record_unacked", fail)
        tag = channel.basic_get(QUEUE).delivery_tag
        assert channel.qos.record(b"a text", QUEUE)

    channel.basic_reject(tag, requeue=True)
    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (1, 0)


@pytest.mark.parametrize("by", ["its timer", "closing"])
def test_a_message_that_was_never_recorded_is_requeued_when_redis_has_room(
    by: str, valkey: Valkey, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it exists in its worker alone, which keeps it, and tries again."""
    later: list[Callable[[], None]] = []
    loop = SimpleNamespace(call_later=lambda _s, function, *args: later.append(partial(function, *args)))
    monkeypatch.setattr(acks, "get_event_loop", lambda: loop)
    tag = pop_unrecorded(valkey, channel)
    valkey.client.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        channel.basic_reject(tag, requeue=True)
    later.pop()()
    assert len(later) == 1
    valkey.client.config_set("maxmemory", 0)

    if by == "its timer":
        later.pop()()
        assert channel.qos.can_consume()
    else:
        channel.close()
        later.pop()()

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (1, 0)
    assert later == []


def test_an_acknowledged_message_is_removed(valkey: Valkey, channel: Any) -> None:
    """Nothing is left to requeue."""
    channel.basic_ack(pop_unrecorded(valkey, channel))
    channel.close()

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (0, 0)


def _refused() -> None:
    raise BrokerLost


def test_a_connection_lost_while_polling_requeues_its_messages(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the connection as a worker does raises nothing, even next to a channel that cannot be closed."""
    transport.register()
    connection = Connection(valkey.url)
    channel = connection.default_channel
    channel.queue_declare(QUEUE)
    channel.basic_publish(channel.prepare_message("message", properties={}), exchange="", routing_key=QUEUE)
    assert channel.basic_get(QUEUE) is not None
    channel.basic_consume(QUEUE, no_ack=False, callback=print, consumer_tag="crawler")
    channel.connection.cycle._register_BRPOP(channel)
    remote_control = connection.channel()
    monkeypatch.setattr(remote_control, "close", _refused)
    valkey.client.client_kill_filter(_type="normal", skipme=True)

    connection.collect()
    connection.close()

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (1, 0)
