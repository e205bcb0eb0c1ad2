"""Messages in hand that Redis would not note: they go back to their queue all the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from redis.exceptions import ConnectionError as BrokerLost

from support.processes.workers import Valkey, running
from tasks.worker import transport

QUEUE = "crawler"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """An empty server."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


@pytest.fixture
def channel(valkey: Valkey) -> Iterator[Any]:
    """A worker's channel, with a message in its queue."""
    transport.register()
    with Connection(valkey.url) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE)
        channel.basic_publish(channel.prepare_message("word", properties={}), exchange="", routing_key=QUEUE)
        yield channel


def in_hand(valkey: Valkey, channel: Any) -> str:
    """Pop the message while Redis is full; its tag."""
    valkey.client.config_set("maxmemory", 1)
    message = channel.basic_get(QUEUE)
    valkey.client.config_set("maxmemory", 0)
    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (0, 0)
    return str(message.delivery_tag)


def test_a_message_not_recorded_by_a_full_redis_is_requeued(valkey: Valkey, channel: Any) -> None:
    """What is put back is what the note holds: it is written first."""
    channel.basic_reject(in_hand(valkey, channel), requeue=True)

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (1, 0)


def test_an_acknowledged_message_is_removed(valkey: Valkey, channel: Any) -> None:
    """Nothing of it is left to be put back."""
    channel.basic_ack(in_hand(valkey, channel))
    channel.close()

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (0, 0)


def _refused() -> None:
    raise BrokerLost


def test_a_connection_lost_while_polling_requeues_its_messages(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed as a worker closes it, beside a channel that cannot be closed, it raises nothing: the worker goes on."""
    transport.register()
    connection = Connection(valkey.url)
    channel = connection.default_channel
    channel.queue_declare(QUEUE)
    channel.basic_publish(channel.prepare_message("word", properties={}), exchange="", routing_key=QUEUE)
    assert channel.basic_get(QUEUE) is not None
    channel.basic_consume(QUEUE, no_ack=False, callback=print, consumer_tag="crawler")
    channel.connection.cycle._register_BRPOP(channel)
    remote_control = connection.channel()
    monkeypatch.setattr(remote_control, "close", _refused)
    valkey.client.client_kill_filter(_type="normal", skipme=True)

    connection.collect()
    connection.close()

    assert (valkey.client.llen(QUEUE), valkey.client.hlen("unacked")) == (1, 0)
