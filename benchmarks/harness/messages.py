"""Messages as a producer of any language pushes them: what the web app and gateways do, without Celery's cost."""

import base64
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tasks.routes import QUEUES, ROUTES

if TYPE_CHECKING:
    import redis


class Publisher:
    """A bare producer."""

    def __init__(self, broker: "redis.Redis[bytes]") -> None:
        self._broker = broker

    def publish(self, task: str, **payload: Any) -> str:
        """Push one message; its id."""
        (id_,) = self.publish_all(task, [payload])
        return id_

    def publish_all(self, task: str, payloads: Iterable[dict[str, Any]]) -> list[str]:
        """Push many messages in one round trip; their ids."""
        queue = queue_of(task)
        ids, texts = [], []
        for payload in payloads:
            ids.append(str(uuid4()))
            texts.append(envelope(task, ids[-1], queue, payload))
        self._broker.lpush(queue, *texts)
        return ids

    def waiting(self) -> int:
        """How many messages wait or are being handled."""
        lengths = [self._broker.llen(queue) for queue in QUEUES]
        return sum(lengths) + self._broker.hlen("unacked")  # type: ignore[arg-type]


def queue_of(task: str) -> str:
    """The queue to which a task goes: its own, or its area's."""
    return ROUTES.get(task, ROUTES[f"{task.partition('.')[0]}.*"])["queue"]


def envelope(task: str, id_: str, queue: str, payload: dict[str, Any]) -> str:
    """One message's text, as docs/contract.md says it."""
    body = base64.b64encode(json.dumps([[], payload, {}]).encode()).decode()
    return json.dumps(
        {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": task, "id": id_, "lang": "js"},
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": queue},
                "delivery_tag": str(uuid4()),
                "delivery_mode": 2,
            },
        }
    )
