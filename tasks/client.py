"""
A producer for Python callers: rings a task by name, or fails within seconds.

    producer = Producer("redis://localhost:6379/0")
    producer.ring("jobs.enqueue", job_ids=["01J…"])

It needs the broker alone, no settings and no database.
"""

from collections.abc import Mapping
from typing import Any

from celery import Celery

from persistence.exceptions import IllegalRequestError
from tasks.contract.payloads import CONTRACT
from tasks.routes import DEFAULT_QUEUE, PUBLISH_POLICY, ROUTES

_TIMEOUT_S = 2


class Producer:
    """Publishes Crawlyard's tasks. Not to be shared by threads or used across a fork."""

    def __init__(self, broker_url: str) -> None:
        self._app = Celery("crawlyard-producer", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            task_serializer="json",
            task_ignore_result=True,
            task_routes=ROUTES,
            task_default_queue=DEFAULT_QUEUE,
            task_publish_retry_policy=PUBLISH_POLICY,
            broker_transport_options={"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S},
        )

    def ring(self, task: str, **payload: Any) -> str:
        """
        Publish one message; returns its id, under which a worker handles it once.

        Raises IllegalRequestError for a task that there is not, pydantic's ValidationError for a
        payload that is none of it (items of a batch are checked by the worker, one by one), and
        kombu's OperationalError where the broker does not answer within seconds.
        """
        return self.publish(task, payload)

    def publish(self, task: str, payload: Mapping[str, Any], message_id: str | None = None) -> str:
        """As `ring`, under an id of the caller's own: published under it twice, it is handled once."""
        if task not in CONTRACT:
            raise IllegalRequestError(f"there is no task {task}; there are {', '.join(CONTRACT)}")
        CONTRACT[task].model_validate(payload)
        return str(self._app.send_task(task, kwargs=dict(payload), task_id=message_id).id)

    def close(self) -> None:
        """Let go of the broker."""
        self._app.close()
