"""The broker, looked at: how long its queues are, and what kind of server it is."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from persistence.exceptions import CrawlyardError
from persistence.settings import settings

_TIMEOUT_S = 2.0

# kombu's: a queue is one list for each priority, the usual one under the queue's own name.
_SEPARATOR = "\x06\x16"
_PRIORITIES = (3, 6, 9)
_UNACKED = "unacked_index"


class BrokerError(CrawlyardError):
    """The broker does not answer, or refuses; the text says how."""


@dataclass(frozen=True)
class BrokerState:
    """What waits in Redis."""

    queues: Mapping[str, int]
    unacked: int
    """Messages that workers have and have not acknowledged."""


def queue_names() -> list[str]:
    """The queues that workers serve."""
    import celeryconfig  # noqa: PLC0415 - it exits where settings are wrong, and they are read before

    return [queue.name for queue in celeryconfig.task_queues]


def read_broker() -> BrokerState:
    """Count what waits. Raises BrokerError."""
    names = queue_names()
    with broker_client() as client, client.pipeline(transaction=False) as pipeline:
        for key in (key for name in names for key in _lists(name)):
            pipeline.llen(key)
        pipeline.zcard(_UNACKED)
        *lengths, unacked = pipeline.execute()
    width = 1 + len(_PRIORITIES)
    sums = [sum(lengths[place : place + width]) for place in range(0, len(lengths), width)]
    return BrokerState(dict(zip(names, sums, strict=True)), unacked)


def ping_broker() -> None:
    """Return when it answers. Raises BrokerError."""
    with broker_client() as client:
        client.ping()


def try_broker() -> None:
    """Return when it can be consumed from and sent to, which write. Raises BrokerError."""
    with broker_client() as client:
        client.set(_PROBE, "", ex=1)


def server_info() -> Mapping[str, Any]:
    """What INFO says; CONFIG is often forbidden, and not needed. Raises BrokerError."""
    with broker_client() as client:
        return {name: value for section in _SECTIONS for name, value in client.info(section).items()}


_PROBE = "crawlyard-health"
_SECTIONS = ("server", "memory", "replication", "cluster")


@contextmanager
def broker_client() -> Iterator["redis.Redis"]:
    """A client that gives up after seconds; what it raises inside is a BrokerError."""
    try:
        with redis.Redis.from_url(
            client_url(settings().broker_url),
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), retries=0),
            client_name="crawlyard-console",
        ) as client:
            yield client
    except (redis.RedisError, OSError) as error:
        raise BrokerError(f"The broker cannot be used: {error}") from None
    except ValueError:
        # Its text holds what was taken for a port, which may be a piece of the password.
        raise BrokerError("BROKER_URL cannot be read: a password in it must be percent-encoded.") from None


def client_url(url: str) -> str:
    """The URL as redis-py wants it, where kombu's differs: sockets, and the words for certificates."""
    parts = urlsplit(url)
    query = [
        (
            {"virtual_host": "db"}.get(name, name),
            value.removeprefix("CERT_").lower() if name == "ssl_cert_reqs" else value,
        )
        for name, value in parse_qsl(parts.query)
    ]
    scheme = "unix" if parts.scheme == "redis+socket" else parts.scheme
    return urlunsplit(parts._replace(scheme=scheme, query=urlencode(query)))


def _lists(queue: str) -> list[str]:
    return [queue, *(f"{queue}{_SEPARATOR}{priority}" for priority in _PRIORITIES)]
