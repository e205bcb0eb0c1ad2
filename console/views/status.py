"""How the status looks on a terminal."""

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from console.checks.broker import BrokerState
from console.checks.status import Overview
from console.output.panels import Row, alarming, count_rows, panel
from console.output.screen import duration, plain
from console.output.urls import shown
from console.views.gateways import gateway_rows
from persistence.reports.status import ConnectionCounts, QueueCounts, RejectedKept, Status, SweepClock
from persistence.settings import settings


def render(overview: Overview) -> RenderableType:
    """The whole status; an error takes the place of what could not be read."""
    errors = [_alarm(error) for error in (overview.database_error, overview.broker_error) if error]
    return Group(_heading(overview), *errors, Columns(_stacks(overview), padding=(0, 1)))


def _stacks(overview: Overview) -> list[RenderableType]:
    """Stacks of panels, which are shown side by side if there is room."""
    broker = [panel("Broker", _broker_rows(overview.broker))] if overview.broker else []
    gateways = [panel("Gateways", gateway_rows(overview.gateways))] if overview.gateways else []
    if overview.database is None:
        return [Group(*broker, *gateways)]
    left, middle, right = _database_panels(overview.database)
    return [Group(*left), Group(*middle, *gateways), Group(*broker, *right)]


def _heading(overview: Overview) -> Text:
    text = Text(shown(settings().database_url), style="bold")
    if overview.database:
        text.append(f"  {overview.database.taken_at:%Y-%m-%d %H:%M:%S %Z}", style="dim")
    return text


def _alarm(error: str) -> Text:
    return Text(plain(error), style="bold red")


def _database_panels(status: Status) -> tuple[list[Panel], list[Panel], list[Panel]]:
    used = sum(status.assignments.values())
    blocked = count_rows(status.held_accounts, "yellow")
    return (
        [panel("Queue", _queue_rows(status.queue)), panel("Jobs", count_rows(status.jobs))],
        [
            panel("Connections", connection_rows(status.connections, used)),
            panel("Failures, last hour", count_rows(status.failures_last_hour, "yellow")),
        ],
        [
            panel("Attempts and sweep", _attempt_rows(status)),
            panel("Rejected, last hour", count_rows(status.rejected_last_hour, "yellow")),
            panel("Rejected, kept", kept_rows(status.rejected_kept)),
            *([panel("Blocked accounts", blocked)] if status.held_accounts else []),
        ],
    )


def _queue_rows(queue: QueueCounts) -> list[Row]:
    oldest = duration(queue.oldest_ready) if queue.oldest_ready is not None else Text("none", style="dim")
    return [
        ("pending", queue.pending),
        ("  ready", queue.ready),
        ("  backed off", queue.backed_off),
        ("  parked", queue.held),
        ("oldest ready for", oldest),
        ("processing", queue.processing),
        ("completed", queue.completed),
        ("failed", queue.failed),
    ]


def connection_rows(connections: ConnectionCounts, used: int) -> list[Row]:
    """Rows about the connections; *used* is the number of slots in use."""
    return [
        ("active", connections.active),
        ("  silent", alarming(connections.silent)),
        ("  disconnected", connections.said_goodbye),
        ("  link lost", connections.link_lost),
        ("closed, last hour", connections.closed_last_hour),
        ("slots", connections.seats),
        ("slots used", used),
    ]


def kept_rows(kept: RejectedKept) -> list[Row]:
    """What is kept of rejected messages, and what was not."""
    return [
        ("messages", kept.rows),
        ("MiB", f"{kept.bytes / 1024**2:,.1f}"),
        ("not kept", alarming(kept.dropped)),
    ]


def _attempt_rows(status: Status) -> list[Row]:
    live: list[Row] = [(state, count) for state, count in status.assignments.items()]
    return [*live, *_sweep_rows(status.sweep)]


def _sweep_rows(sweep: SweepClock) -> list[Row]:
    late = sweep.age is None or sweep.age > 3 * settings().sweep_interval
    when = "never" if sweep.age is None else f"{duration(sweep.age)} ago"
    rows: list[Row] = [("last sweep", Text(when, style="red" if late else ""))]
    if sweep.grace_left:
        rows.append(("grace period left", Text(duration(sweep.grace_left), style="yellow")))
    return rows


def _broker_rows(broker: BrokerState) -> list[Row]:
    return [*broker.queues.items(), ("unacknowledged", broker.unacked)]
