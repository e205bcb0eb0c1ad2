"""
The real app, in a worker whose descriptors run out when it consumes.

It takes all that its limit leaves, and those that others free, while the Redis key `exhausted` exists.
"""

import os
import resource
from contextlib import suppress
from threading import Thread
from time import sleep
from typing import Any

import redis
from celery.signals import worker_ready

from tasks.app import app

__all__ = ["app"]

LIMIT = 64

orders = redis.Redis.from_url(os.environ["BROKER_URL"])


def _exhaust() -> None:
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    while not orders.exists("exhausted"):
        sleep(0.02)
    while orders.exists("exhausted"):
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        orders.set("taken", len(taken))
        sleep(0.02)
    for descriptor in taken:
        os.close(descriptor)


def _begin(**_: Any) -> None:
    orders.ping()
    Thread(target=_exhaust, daemon=True).start()


worker_ready.connect(_begin, weak=False)
