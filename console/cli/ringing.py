"""Ringing a task from the command line: what is wrong with it is a usage error, what was rung is said."""

from collections.abc import Mapping
from typing import Any

import click
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from console.checkup.broker import BrokerError
from console.cli import screen
from persistence.settings import settings
from tasks.client import Producer


def ring(task: str, payload: Mapping[str, Any], *, as_json: bool) -> None:
    """Ring *task*, and print the id of its message. Raises a usage error, or BrokerError."""
    producer = Producer(settings().broker_url)
    try:
        message_id = producer.ring(task, **payload)
    except ValidationError as error:
        raise _usage_error(error) from None
    except OperationalError as error:
        raise BrokerError(f"The broker cannot be used: {error}") from None
    finally:
        producer.close()
    if as_json:
        screen.print_json({"task": task, "message_id": message_id, "payload": payload})
    else:
        click.echo(f"{task} was rung, as message {message_id}; a worker carries it out.")


def _usage_error(error: ValidationError) -> click.UsageError:
    """The first fault, by the option that it was given with."""
    fault = error.errors(include_input=False, include_context=False, include_url=False)[0]
    field = fault["loc"][0] if fault["loc"] else None
    for option in click.get_current_context().command.params:
        if option.name == field:
            return click.BadParameter(fault["msg"], param_hint=option.opts[0])
    return click.UsageError(fault["msg"])
