"""How the status looks on a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from console.checkup.broker import BrokerState
from console.checkup.urls import shown
from console.cli.screen import duration, plain
from persistence.settings import settings
from persistence.status import ConnectionCounts, QueueCounts, Status, SweepClock

if TYPE_CHECKING:
    from console.checkup.status import Overview

_PANEL_WIDTH = 36
_MOST = 8
"""Rows of a table whose words are others'."""

Cell = int | str | Text
Row = tuple[str, Cell]


def render(overview: "Overview") -> RenderableType:
    """The whole status; what could not be read is said in its place."""
    errors = [_alarm(error) for error in (overview.database_error, overview.broker_error) if error]
    return Group(_heading(overview), *errors, Columns(_stacks(overview), padding=(0, 1)))


def _stacks(overview: "Overview") -> list[RenderableType]:
    """Panels one below the other, in stacks that stand side by side where there is room."""
    broker = [_panel("Broker", _broker_rows(overview.broker))] if overview.broker else []
    if overview.database is None:
        return [Group(*broker)]
    left, middle, right = _database_panels(overview.database)
    return [Group(*left), Group(*middle), Group(*broker, *right)]


def _heading(overview: "Overview") -> Text:
    text = Text(shown(settings().database_url), style="bold")
    if overview.database:
        text.append(f"  {overview.database.taken_at:%Y-%m-%d %H:%M:%S %Z}", style="dim")
    return text


def _alarm(error: str) -> Text:
    return Text(plain(error), style="bold red")


def _database_panels(status: Status) -> tuple[list[Panel], list[Panel], list[Panel]]:
    seated = sum(status.assignments.values())
    held = _word_rows(status.held_accounts, "yellow")
    return (
        [_panel("Queue", _queue_rows(status.queue)), _panel("Jobs", _word_rows(status.jobs))],
        [
            _panel("Connections", _connection_rows(status.connections, seated)),
            _panel("Failures, last hour", _word_rows(status.failures_last_hour, "yellow")),
        ],
        [
            _panel("Attempts and sweep", _attempt_rows(status)),
            _panel("Rejected, last hour", _word_rows(status.rejected_last_hour, "yellow")),
            *([_panel("Held accounts", held)] if status.held_accounts else []),
        ],
    )


def _queue_rows(queue: QueueCounts) -> list[Row]:
    oldest = duration(queue.oldest_ready) if queue.oldest_ready is not None else Text("none", style="dim")
    return [
        ("pending", queue.pending),
        ("  ready", queue.ready),
        ("  backed off", queue.backed_off),
        ("  held", queue.held),
        ("oldest ready for", oldest),
        ("processing", queue.processing),
        ("completed", queue.completed),
        ("failed", queue.failed),
    ]


def _connection_rows(connections: ConnectionCounts, taken: int) -> list[Row]:
    return [
        ("active", connections.active),
        ("  silent", _alarming(connections.silent)),
        ("  said goodbye", connections.said_goodbye),
        ("closed, last hour", connections.closed_last_hour),
        ("seats", connections.seats),
        ("seats taken", taken),
    ]


def _attempt_rows(status: Status) -> list[Row]:
    live: list[Row] = [(word, count) for word, count in status.assignments.items()]
    return [*live, *_sweep_rows(status.sweep)]


def _sweep_rows(sweep: SweepClock) -> list[Row]:
    late = sweep.age is None or sweep.age > 3 * settings().sweep_interval
    when = "never" if sweep.age is None else f"{duration(sweep.age)} ago"
    rows: list[Row] = [("last sweep", Text(when, style="red" if late else ""))]
    if sweep.grace_left:
        rows.append(("grace for", Text(duration(sweep.grace_left), style="yellow")))
    return rows


def _broker_rows(broker: BrokerState) -> list[Row]:
    return [*broker.queues.items(), ("unacknowledged", broker.unacked)]


def _word_rows(counts: Mapping[str, int], style: str = "") -> list[Row]:
    """Others' words by their counts, the most frequent first."""
    rows: list[Row] = [(plain(word) or "(none)", Text(f"{n:,}", style=style)) for word, n in counts.items()]
    if len(rows) > _MOST:
        rows[_MOST:] = [("others", sum(list(counts.values())[_MOST:]))]
    return rows or [("none", Text())]


def _alarming(count: int) -> Cell:
    return Text(f"{count:,}", style="red") if count else count


def _panel(title: str, rows: Sequence[Row]) -> Panel:
    cells = [(Text(name, style="dim" if name.startswith(" ") else ""), _cell(value)) for name, value in rows]
    table = Table.grid(padding=(0, 1), expand=True)
    # The names get what the figures leave: a long one is cut, and costs no figure.
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for cell in cells:
        table.add_row(*cell)
    return Panel(table, title=f"[bold]{title}[/]", title_align="left", width=_PANEL_WIDTH, border_style="dim")


def _cell(value: Cell) -> Text:
    if isinstance(value, int):
        return Text(f"{value:,}", style="dim" if value == 0 else "")
    return value if isinstance(value, Text) else Text(value)
