"""Publishes the task of a command; a broker that does not answer is reported in one line within seconds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from console.checks.broker import BrokerError
from console.output import screen
from persistence.exceptions import IllegalRequestError
from persistence.settings import settings
from tasks.client import Producer
from tasks.runtime.rejection import describe_error


def publish(task: str, **payload: Any) -> str:
    """
    Publish one message for a worker, and return its id.

    Raises IllegalRequestError for an invalid payload, and BrokerError if the broker does not answer.
    """
    try:
        return _publish_once(task, payload)
    except ValidationError as error:
        raise IllegalRequestError(describe_error(error)) from None


def publish_and_print(task: str, payload: Mapping[str, Any], *, as_json: bool) -> None:
    """Publish the options of a command, and print the message's id. Raises a usage error for an invalid option."""
    try:
        message_id = _publish_once(task, payload)
    except ValidationError as error:
        raise _usage_error(error) from None
    if as_json:
        screen.print_json({"task": task, "message_id": message_id, "payload": payload})
    else:
        click.echo(f"Published {task} as message {message_id}; a worker will run it.")


@contextmanager
def producer() -> Iterator[Producer]:
    """Open a producer, and close it at the end. Raises BrokerError if the broker does not answer."""
    ours = settings()
    publisher = Producer(ours.broker_url, queue_prefix=ours.queue_prefix, deployment=ours.deployment)
    try:
        yield publisher
    except OperationalError as error:
        raise BrokerError(f"The broker cannot be used: {error}") from None
    finally:
        publisher.close()


def _publish_once(task: str, payload: Mapping[str, Any]) -> str:
    with producer() as publisher:
        return publisher.publish(task, payload)


def _usage_error(error: ValidationError) -> click.UsageError:
    """Turn the first validation error into one that names the option."""
    fault = error.errors(include_input=False, include_context=False, include_url=False)[0]
    field = fault["loc"][0] if fault["loc"] else None
    for option in click.get_current_context().command.params:
        if option.name == field:
            return click.BadParameter(fault["msg"], param_hint=option.opts[0])
    return click.UsageError(fault["msg"])
