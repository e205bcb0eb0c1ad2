"""A plain client of the broker: it gives up after two seconds or less, and takes kombu's form of URLs."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_S = 2.0

ASYNC_ERRORS = (redis.RedisError, OSError, RuntimeError)
"""What an asynchronous client raises while the broker is away: uvloop has RuntimeErrors for a socket that is closed."""


def open_client(url: str, timeout_s: float = TIMEOUT_S, **options: Any) -> "redis.Redis":
    """Open a client that never retries. Raises ValueError if the URL cannot be read."""
    return redis.Redis.from_url(
        client_url(url),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), retries=0),
        **options,
    )


def client_url(url: str) -> str:
    """Convert a kombu URL to redis-py's form, which differs for sockets, databases and certificate options."""
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
