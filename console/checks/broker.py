"""Reads the broker: how long its queues are, and what kind of server it is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import AuthenticationError, NoPermissionError

from persistence.exceptions import CrawlyardError
from persistence.settings import settings
from tasks.start.broker_client import open_client
from tasks.start.broker_rights import Lack, Need, lack_of, try_to_publish

# As kombu stores them: a queue is one list per priority, and the default priority has the queue's own name.
_SEPARATOR = "\x06\x16"
_PRIORITIES = (3, 6, 9)
_UNACKED = "unacked_index"


class BrokerError(CrawlyardError):
    """The broker does not answer, or refuses; the text says which."""


class BrokerRefusesError(BrokerError):
    """The broker answers, but our user may not do this: a password or a right is wrong."""


@dataclass(frozen=True)
class BrokerState:
    """The number of messages in Redis."""

    queues: Mapping[str, int]
    unacked: int
    """Messages that were delivered to workers and are not acknowledged yet."""


def queue_names() -> list[str]:
    """Return the queues that workers consume."""
    import celeryconfig  # noqa: PLC0415 - importing it reads the settings, which must have been checked first

    return [queue.name for queue in celeryconfig.task_queues]


def read_broker() -> BrokerState:
    """Count the messages. Raises BrokerError."""
    names = queue_names()
    with broker_client() as client, client.pipeline(transaction=False) as pipeline:
        for key in (key for name in names for key in _lists(name)):
            pipeline.llen(_prefixed(key))
        pipeline.zcard(_prefixed(_UNACKED))
        *lengths, unacked = pipeline.execute()
    width = 1 + len(_PRIORITIES)
    sums = [sum(lengths[place : place + width]) for place in range(0, len(lengths), width)]
    return BrokerState(dict(zip(names, sums, strict=True)), unacked)


def ping_broker() -> None:
    """Return when the broker answers. Raises BrokerError."""
    with broker_client() as client:
        client.ping()


def try_broker() -> None:
    """Return when the broker accepts a write, which both consuming and publishing need. Raises BrokerError."""
    with _our_errors():
        try_to_publish()


def lacking(needs: Sequence[Need]) -> Lack:
    """Return what our user lacks of these. Raises BrokerError."""
    with _our_errors():
        return lack_of(needs)


def server_info() -> Mapping[str, Any]:
    """Return what INFO reports; CONFIG is often forbidden, and not needed. Raises BrokerError."""
    with broker_client() as client:
        return {name: value for section in _SECTIONS for name, value in client.info(section).items()}


_SECTIONS = ("server", "memory", "replication", "cluster")


@contextmanager
def broker_client() -> Iterator["redis.Redis"]:
    """Open a client that gives up after two seconds, and turn its errors into BrokerError."""
    with _our_errors(), open_client(settings().broker_url, client_name="crawlyard-console") as client:
        yield client


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except (AuthenticationError, NoPermissionError) as error:
        raise BrokerRefusesError(f"The broker refuses: {error}") from None
    except (redis.RedisError, OSError) as error:
        raise BrokerError(f"The broker cannot be used: {error}") from None
    except ValueError:
        # The text of the error contains what was parsed as the port, which may be a piece of the password.
        raise BrokerError("BROKER_URL cannot be read: a password in it must be percent-encoded.") from None


def _prefixed(key: str) -> str:
    return settings().queue_prefix + key


def _lists(queue: str) -> list[str]:
    return [queue, *(f"{queue}{_SEPARATOR}{priority}" for priority in _PRIORITIES)]
