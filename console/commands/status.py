"""`crawlyard status`: how the database and the broker stand; what does not answer is said, and the rest is shown."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from rich.live import Live

from console.checks.broker import BrokerState, queue_names, read_broker
from console.checks.deadline import begin, within
from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.output.urls import reason
from console.views.status import render
from persistence.db.exceptions import CrawlyardError
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


def show_status(*, as_json: bool, watch: float | None) -> int:
    """Print the status once, or again and again until Ctrl-C; returns the exit code."""
    settings()
    queue_names()  # imports what a thread must not be the first to import
    if watch is None:
        overview = read_overview()
        _print(overview, as_json=as_json, indent=2)
        return overview.exit_code
    if as_json or not screen.console().is_terminal:
        return _print_for_ever(watch, as_json=as_json)
    return _watch(watch)


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


def _print(overview: Overview, *, as_json: bool, indent: int | None) -> None:
    if as_json:
        screen.print_json(overview, indent=indent)
    else:
        screen.console().print(render(overview))


def _print_for_ever(pause: float, *, as_json: bool) -> int:
    """For pipes: one status after the other, each JSON one a line."""
    while True:
        _print(read_overview(), as_json=as_json, indent=None)
        time.sleep(pause)


def _watch(pause: float) -> int:
    """For terminals: on a screen of its own, which is put back afterwards."""
    with Live(render(read_overview()), console=screen.console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(read_overview()), refresh=True)
            time.sleep(pause)
