"""How the database and the broker stand, both read at once; what does not answer is said."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from console.checks.broker import BrokerState, read_broker
from console.checks.deadline import begin, within
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
    """What could be read, and what is wrong with the rest."""

    database: Status | None
    database_error: str | None
    broker: BrokerState | None
    broker_error: str | None

    @property
    def exit_code(self) -> int:
        """0 if everything could be read."""
        return 0 if self.database and self.broker else FAILED_CHECK


def read_overview() -> Overview:
    """Read both at once; neither can hold the other up."""
    database, broker = begin(read_status), begin(read_broker)
    # The counting may take as long as a statement may; the connection a little more.
    patience = (settings().statement_timeout + timedelta(seconds=_SPARE_S)).total_seconds()
    state = _tried(lambda: within(_BROKER_S, broker, "The broker"))
    status = _tried(lambda: within(patience, database, "The database"))
    return Overview(*status, *state)


def _tried(read: Callable[[], T]) -> tuple[T, None] | tuple[None, str]:
    try:
        return read(), None
    except CrawlyardError as error:
        return None, reason(error)
