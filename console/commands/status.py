"""`crawlyard status`: shows the state of the database and the broker; if one does not answer, shows the other."""

import time

from rich.live import Live

from console.checks.broker import queue_names
from console.checks.status import Overview, read_overview
from console.output import screen
from console.views.status import render
from persistence.settings import settings


def show_status(*, as_json: bool, watch: float | None) -> int:
    """Print the status once, or every *watch* seconds until Ctrl-C, and return the exit code."""
    settings()
    queue_names()  # imports modules that must not be imported in a thread first
    if watch is None:
        overview = read_overview()
        _print(overview, as_json=as_json, indent=2)
        return overview.exit_code
    if as_json or not screen.console().is_terminal:
        return _print_repeatedly(watch, as_json=as_json)
    return _watch(watch)


def _print(overview: Overview, *, as_json: bool, indent: int | None) -> None:
    if as_json:
        screen.print_json(overview, indent=indent)
    else:
        screen.console().print(render(overview))


def _print_repeatedly(pause: float, *, as_json: bool) -> int:
    """For pipes: one status after the other; JSON takes one line each."""
    while True:
        _print(read_overview(), as_json=as_json, indent=None)
        time.sleep(pause)


def _watch(pause: float) -> int:
    """For terminals: on the alternate screen, which is closed at the end."""
    with Live(render(read_overview()), console=screen.console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(read_overview()), refresh=True)
            time.sleep(pause)
