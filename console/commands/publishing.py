"""Bells that commands ring: published, or refused within seconds and in one line."""

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
    Publish one message for a worker; its id.

    Raises IllegalRequestError for a payload that is none, and BrokerError where the broker does not answer.
    """
    try:
        return _publish_once(task, payload)
    except ValidationError as error:
        raise IllegalRequestError(describe_error(error)) from None


def publish_and_print(task: str, payload: Mapping[str, Any], *, as_json: bool) -> None:
    """Publish what the options of a command make up, and print the message's id; a fault is one of the options."""
    try:
        message_id = _publish_once(task, payload)
    except ValidationError as error:
        raise _usage_error(error) from None
    if as_json:
        screen.print_json({"task": task, "message_id": message_id, "payload": payload})
    else:
        click.echo(f"{task} was rung, as message {message_id}; a worker carries it out.")


@contextmanager
def producer() -> Iterator[Producer]:
    """A producer for as long as it is needed. Raises BrokerError where the broker does not answer."""
    publisher = Producer(settings().broker_url)
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
    """The first fault, by the option that it was given with."""
    fault = error.errors(include_input=False, include_context=False, include_url=False)[0]
    field = fault["loc"][0] if fault["loc"] else None
    for option in click.get_current_context().command.params:
        if option.name == field:
            return click.BadParameter(fault["msg"], param_hint=option.opts[0])
    return click.UsageError(fault["msg"])
