"""Reads the state of the database and the broker at the same time; either may fail without the other."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from console.checks.broker import BrokerState, read_broker
from console.checks.deadline import begin, within
from console.checks.gateways import GatewayState, gateway_states, read_signs
from console.output.exit_codes import FAILED_CHECK
from console.output.urls import reason
from persistence.exceptions import CrawlyardError
from persistence.reports.status import Status, read_status
from persistence.settings import settings

_SPARE_S = 5.0
_BROKER_S = 4.0

T = TypeVar("T")


@dataclass(frozen=True)
class Overview:
    """The two states; where one could not be read, the error instead."""

    database: Status | None
    database_error: str | None
    broker: BrokerState | None
    broker_error: str | None
    gateways: list[GatewayState]
    """As far as they are known of what could be read."""

    @property
    def exit_code(self) -> int:
        """0 if both could be read, else 1."""
        return 0 if self.database and self.broker else FAILED_CHECK


def read_overview() -> Overview:
    """Read both at the same time; neither delays the other."""
    database, broker, signs = begin(read_status), begin(read_broker), begin(read_signs)
    # Counting may take up to the statement timeout; connecting takes a little more.
    timeout_s = (settings().statement_timeout + timedelta(seconds=_SPARE_S)).total_seconds()
    state, state_error = _tried(lambda: within(_BROKER_S, broker, "The broker"))
    status, status_error = _tried(lambda: within(timeout_s, database, "The database"))
    signs_of_life, _ = _tried(lambda: within(_BROKER_S, signs, "The broker"))
    gateways = gateway_states(signs_of_life or {}, status.gateways if status else {})
    return Overview(status, status_error, state, state_error, gateways)


def _tried(read: Callable[[], T]) -> tuple[T, None] | tuple[None, str]:
    try:
        return read(), None
    except CrawlyardError as error:
        return None, reason(error)
