"""
A producer for Python callers: it publishes a task by name, or fails within seconds.

    producer = Producer("redis://localhost:6379/0")
    producer.publish("jobs.enqueue", {"job_ids": ["01J…"]})

It needs only the broker: no settings and no database. The host's variables for Celery do not reach it.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from kombu.exceptions import OperationalError

from persistence.exceptions import IllegalRequestError
from tasks.contract.payloads import CONTRACT
from tasks.own_celery import OwnCelery
from tasks.routes import DEFAULT_QUEUE, PUBLISH_POLICY, ROUTES

_TIMEOUT_S = 2


class Producer:
    """Publishes Crawlyard's tasks. Do not share one between threads, or use it after a fork."""

    def __init__(self, broker_url: str, *, queue_prefix: str = "", deployment: str = "") -> None:
        """Take the broker's URL, and the workers' CRAWLYARD_QUEUE_PREFIX and CRAWLYARD_DEPLOYMENT."""
        self._headers = {"deployment": deployment} if deployment else {}
        self._app = OwnCelery("crawlyard-producer", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            task_serializer="json",
            task_ignore_result=True,
            task_routes=ROUTES,
            task_default_queue=DEFAULT_QUEUE,
            task_publish_retry_policy=PUBLISH_POLICY,
            broker_transport_options={
                "socket_timeout": _TIMEOUT_S,
                "socket_connect_timeout": _TIMEOUT_S,
                "global_keyprefix": queue_prefix,
            },
        )

    def publish(self, task: str, payload: Mapping[str, Any], message_id: str | None = None) -> str:
        """
        Publish one message and return its id.

        A worker processes a message once per id: a caller that chooses *message_id* may publish the message again.

        Raises IllegalRequestError for an unknown task, pydantic's ValidationError for a payload that does not fit it
        (the items of a batch are validated by the worker), and kombu's OperationalError if the broker does not answer
        within seconds, or the operating system refuses what a connection needs: the message was not published, or it
        is unknown whether it was.
        """
        if task not in CONTRACT:
            raise IllegalRequestError(f"there is no task {task}; there are {', '.join(CONTRACT)}")
        CONTRACT[task].model_validate(payload)
        try:
            sent = self._app.send_task(task, kwargs=dict(payload), task_id=message_id, headers=self._headers)
        except OSError as error:
            raise OperationalError(error.strerror or type(error).__name__) from error
        return str(sent.id)

    def ring(self, task: str, **payload: Any) -> str:
        """Deprecated: call `publish(task, payload)`."""
        warnings.warn(
            "Producer.ring is deprecated: call publish(task, payload)", DeprecationWarning, stacklevel=2
        )
        return self.publish(task, payload)

    def close(self) -> None:
        """Close the connection to the broker."""
        self._app.close()
