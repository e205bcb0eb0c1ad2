"""`crawlyard connections`: lists the active connections, or shows some with their live attempts."""

from collections.abc import Sequence

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.output.screen import counted, duration, plain
from persistence.reports.connections import ConnectionState, active_connections, find_connections
from persistence.settings import settings

_ULID_WIDTH = 26


def show_connections(*, ids: Sequence[str], after: str, limit: int, as_json: bool) -> int:
    """
    Print the active connections, or those of *ids* with their live attempts.

    Returns the exit code: 1 if an id is unknown.
    """
    settings()
    found = find_connections(ids) if ids else active_connections(after=after, limit=limit)
    missing = set(ids) - {connection.id for connection in found}
    if as_json:
        screen.print_json(found)
    elif ids:
        for connection in found:
            screen.console().print(_render_one(connection))
    else:
        screen.console().print(_render_list(found))
    for id_ in sorted(missing):
        click.echo(f"There is no connection {plain(id_)}.", err=True)
    return FAILED_CHECK if missing else 0


def _render_list(found: Sequence[ConnectionState]) -> RenderableType:
    if not found:
        return "No crawler is connected."
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    # The crawler's own name gets the width that the other columns leave.
    table.add_column("connection", no_wrap=True, min_width=_ULID_WIDTH)
    table.add_column("crawler", overflow="ellipsis", no_wrap=True)
    for name in ("jobs", "silent for"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    table.add_column(
        "status", no_wrap=True, min_width=max(len(text) for text in ("status", *map(_status, found)))
    )
    for connection in found:
        table.add_row(
            Text(plain(connection.id)),
            Text(plain(connection.crawler_id or "")),
            f"{connection.live}/{connection.capacity}",
            _silence(connection),
            _status(connection),
        )
    return table


def _silence(connection: ConnectionState) -> Text:
    if connection.silent_for is None:
        return Text("")
    late = connection.silent_for > settings().connection_timeout
    return Text(duration(connection.silent_for), style="red" if late else "")


def _status(connection: ConnectionState) -> str:
    if not connection.is_active:
        return "closed"
    if connection.goodbye_at:
        return "disconnected"
    return "link lost" if connection.lost_at else plain(connection.system_status)


def _render_one(connection: ConnectionState) -> RenderableType:
    attempts = Table.grid(padding=(0, 2))
    for attempt in connection.attempts:
        attempts.add_row(
            f"  {attempt.status}", Text(plain(attempt.crawler_job_id)), f"job {plain(attempt.job_id)}"
        )
    return Group(_render_list([connection]), counted(len(connection.attempts), "live attempt"), attempts)
