"""
The real app, in a worker that kills itself with SIGKILL at a chosen point of a chosen task, once.

The Redis hash `crash` says where: `task`, `at` (the number of the point), `moment` (before, after) and `whom` (child,
worker). The crash deletes it. The sets `rung` and `ended` contain the ids of the messages published to the crawlers'
queue, and of those whose task has ended.
"""

import os
import signal
from contextlib import ExitStack
from typing import Any

import redis
from celery.concurrency.asynpool import AsynPool
from celery.signals import before_task_publish, task_postrun, task_prerun

from support.crashes import Point, at_each_point, nothing
from tasks.app import app
from tasks.worker import consumer

orders = redis.Redis.from_url(os.environ["BROKER_URL"], decode_responses=True)

app.conf.broker_transport_options |= {"visibility_timeout": 3, "unacked_restore_interval": 1}
# Billiard sometimes misses the death of a child, and by default looks again after five seconds.
AsynPool.timers = property(lambda pool: {pool.maintain_pool: 0.1})

# The messages of all tasks are pushed to the one queue that the worker serves.
consumer.is_served_by = lambda *_: True

_watch = ExitStack()


def _arm(task: Any, **_: Any) -> None:
    order = orders.hgetall("crash")
    if order.get("task") != task.name:
        return

    def shoot(point: Point) -> None:
        if point.number == int(order["at"]) and orders.delete("crash"):
            if order["whom"] == "worker":
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    hooks = {"before": nothing, "after": nothing} | {order["moment"]: shoot}
    _watch.enter_context(at_each_point(**hooks))


def _disarm(task_id: str, **_: Any) -> None:
    _watch.close()
    orders.sadd("ended", task_id)


def _note(routing_key: str, headers: dict[str, Any], **_: Any) -> None:
    if routing_key == "crawler":
        orders.sadd("rung", headers["id"])


task_prerun.connect(_arm, weak=False)
task_postrun.connect(_disarm, weak=False)
before_task_publish.connect(_note, weak=False)
