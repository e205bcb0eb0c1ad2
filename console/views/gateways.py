"""How gateways look on a terminal."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from console.checks.gateways import GatewayState
from console.output.panels import Row
from console.output.screen import counted, duration, plain

_STYLES = {"missing": "red", "waiting": "yellow", "draining": "yellow"}
_MOST = 12


def gateway_rows(gateways: Sequence[GatewayState]) -> list[Row]:
    """One row each, those first that need attention; the rest are counted."""
    ordered = sorted(gateways, key=lambda gateway: (gateway.state not in _STYLES, gateway.name))
    rows: list[Row] = [(plain(gateway.name), _summary(gateway)) for gateway in ordered[:_MOST]]
    return [*rows, ("others", len(ordered) - _MOST)] if len(ordered) > _MOST else rows


def render_gateways(gateways: Sequence[GatewayState]) -> RenderableType:
    """All of them, with what the broker and the database know of each."""
    if not gateways:
        return "No gateway runs, and no connection names one."
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("gateway", overflow="ellipsis", no_wrap=True)
    table.add_column("state", no_wrap=True, min_width=8)
    for name in ("links", "connections", "lost", "jobs", "up for", "last sign"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    table.add_column("host", overflow="ellipsis", no_wrap=True)
    for gateway in gateways:
        known = gateway.connections
        table.add_row(
            Text(plain(gateway.name)),
            Text(gateway.state, style=_STYLES.get(gateway.state, "")),
            "" if gateway.sockets is None else f"{gateway.sockets:,}",
            f"{known.links + known.lost:,}" if known else "0",
            Text(f"{known.lost:,}", style="yellow" if known.lost else "") if known else "0",
            f"{known.live:,}" if known else "0",
            duration(gateway.up) if gateway.up else "",
            f"{duration(gateway.last_sign)} ago" if gateway.last_sign else "",
            Text(f"{plain(gateway.host)} {gateway.pid}" if gateway.host else ""),
        )
    return table


def _summary(gateway: GatewayState) -> Text:
    known = gateway.connections
    links = gateway.sockets if gateway.sockets is not None else known.links + known.lost if known else 0
    parts = [] if gateway.state in {"serving", "unknown"} else [gateway.state]
    if links or not parts:
        parts.append(counted(links, "link") if links else "idle")
    return Text(", ".join(parts), style=_STYLES.get(gateway.state, ""))
