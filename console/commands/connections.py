"""`crawlyard connections`: lists the active connections, or shows some with their live attempts; or the gateways."""

from collections.abc import Sequence

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.checks.broker import BrokerError
from console.checks.gateways import gateway_states, read_signs
from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.output.screen import counted, duration, plain
from console.output.urls import reason
from console.views.gateways import render_gateways
from persistence.reports.connections import ConnectionState, active_connections, find_connections
from persistence.reports.gateways import read_gateway_connections
from persistence.settings import settings

_ULID_WIDTH = 26


def show_connections(
    *, ids: Sequence[str], after: str, limit: int, gateway: str | None, gateways: bool, as_json: bool
) -> int:
    """
    Print the active connections, or those of *ids* with their live attempts, or the gateways.

    Returns the exit code: 1 if an id is unknown.
    """
    settings()
    if gateways:
        return _show_gateways(as_json=as_json)
    found = find_connections(ids) if ids else active_connections(after=after, limit=limit, gateway=gateway)
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


def _show_gateways(*, as_json: bool) -> int:
    """Print the gateways; without the broker, those that connections name, with exit code 1."""
    connections = read_gateway_connections()
    try:
        signs, error = read_signs(), ""
    except BrokerError as refused:
        signs, error = {}, reason(refused)
    states = gateway_states(signs, connections)
    if as_json:
        screen.print_json(states)
    else:
        screen.console().print(render_gateways(states))
    if error:
        click.echo(error, err=True)
    return FAILED_CHECK if error else 0


def _render_list(found: Sequence[ConnectionState]) -> RenderableType:
    if not found:
        return "No crawler is connected."
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    # The crawler's own name gets the width that the other columns leave.
    table.add_column("connection", no_wrap=True, min_width=_ULID_WIDTH)
    table.add_column("crawler", overflow="ellipsis", no_wrap=True)
    for name in ("jobs", "silent for"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    has_gateways = any(connection.gateway for connection in found)
    if has_gateways:
        table.add_column("gateway", overflow="ellipsis", no_wrap=True)
        table.add_column("link", justify="right", no_wrap=True, min_width=4)
    table.add_column(
        "status", no_wrap=True, min_width=max(len(text) for text in ("status", *map(_status, found)))
    )
    for connection in found:
        table.add_row(
            Text(plain(connection.id)),
            Text(plain(connection.crawler_id or "")),
            f"{connection.live}/{connection.capacity}",
            _silence(connection),
            *(_link(connection) if has_gateways else ()),
            _status(connection),
        )
    return table


def _silence(connection: ConnectionState) -> Text:
    if connection.silent_for is None:
        return Text("")
    late = connection.silent_for > settings().connection_timeout
    return Text(duration(connection.silent_for), style="red" if late else "")


def _link(connection: ConnectionState) -> tuple[Text, str]:
    """The gateway, and the crawler's number for its link."""
    number = "" if connection.incarnation is None else f"#{connection.incarnation}"
    return Text(plain(connection.gateway or "")), number


def _status(connection: ConnectionState) -> str:
    if not connection.is_active:
        return "closed"
    if connection.goodbye_at:
        return "disconnected"
    if connection.lost_for is not None:
        return f"link lost {duration(connection.lost_for)}"
    return plain(connection.system_status)


def _render_one(connection: ConnectionState) -> RenderableType:
    attempts = Table.grid(padding=(0, 2))
    for attempt in connection.attempts:
        attempts.add_row(
            f"  {attempt.status}", Text(plain(attempt.crawler_job_id)), f"job {plain(attempt.job_id)}"
        )
    link = [f"link {plain(connection.link)}"] if connection.link else []
    return Group(
        _render_list([connection]), *link, counted(len(connection.attempts), "live attempt"), attempts
    )
