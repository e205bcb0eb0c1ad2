"""Bells that commands ring: published, or refused within seconds and in one line."""

from typing import Any

from kombu.exceptions import OperationalError
from pydantic import ValidationError

from console.checkup.broker import BrokerError
from persistence.exceptions import IllegalRequestError
from persistence.settings import settings
from tasks.client import Producer
from tasks.rejection import complaint


def ring(task: str, **payload: Any) -> str:
    """
    Publish one message for a worker; its id.

    Raises IllegalRequestError for a payload that is none, and BrokerError where the broker does not answer.
    """
    producer = Producer(settings().broker_url)
    try:
        return producer.ring(task, **payload)
    except ValidationError as error:
        raise IllegalRequestError(complaint(error)) from None
    except OperationalError as error:
        raise BrokerError(f"The broker cannot be used: {error}") from None
    finally:
        producer.close()
