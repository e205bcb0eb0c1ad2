"""How errors and their groups look on a terminal; 80 columns are enough."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.output.layout import facts, heading, lines, moment, rows_of_two
from console.output.screen import counted, plain
from persistence.error_log.groups import ErrorGroup, GroupWithErrors
from persistence.error_log.queries import LoggedError

_TRACE_LINES = 40
_MESSAGE_LENGTH = 130
"""Of a group's newest error; enough to tell the group from others. It may take several lines."""


def render_errors(errors: Sequence[LoggedError]) -> RenderableType:
    """Two lines per error: time and message, group and job."""
    return rows_of_two("when (UTC), group", "error, job", (_error(error) for error in errors))


def _error(error: LoggedError) -> tuple[Text, Text, Text, Text]:
    resolved = f" · resolved: {plain(error.resolution)}" if error.resolution else ""
    return (
        Text(moment(error.timestamp)),
        _error_text(error.error_type, error.error_message),
        Text(error.fingerprint or "no group", style="dim"),
        Text(f"job {plain(error.job_id)}{resolved}", style="dim"),
    )


def _error_text(error_type: str, message: str) -> Text:
    return Text.assemble((plain(error_type), "yellow"), f": {plain(message)}")


def render_groups(groups: Sequence[ErrorGroup]) -> RenderableType:
    """One row per group: its counts, its fingerprint and its newest error."""
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
    for name in ("errors", "unresolved", "jobs", "accounts"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("group, last seen (UTC), newest error", ratio=1, overflow="fold")
    for group in groups:
        table.add_row(*_figures(group), _newest(group))
    return table


def _figures(group: ErrorGroup) -> Iterator[Text]:
    yield Text(f"{group.errors:,}")
    yield Text(f"{group.unresolved:,}", style="red" if group.unresolved else "dim")
    yield Text(f"{group.jobs:,}")
    yield Text(f"{group.accounts:,}")


def _newest(group: ErrorGroup) -> Text:
    first = Text(f"{group.fingerprint}  {moment(group.last_seen)}\n")
    text = _error_text(group.error_type, group.error_message)
    text.truncate(_MESSAGE_LENGTH, overflow="ellipsis")
    return first + text


def render_group(shown: GroupWithErrors) -> RenderableType:
    """One group with its newest errors, and the newest stack trace."""
    group = shown.group
    parts: list[RenderableType] = [
        Text(group.fingerprint, style="bold"),
        _error_text(group.error_type, group.error_message),
        Text(),
        facts(
            {
                "errors": f"{group.errors:,}, {group.unresolved:,} of them unresolved",
                "jobs": f"{group.jobs:,}, of {counted(group.accounts, 'account')}",
                "first seen": f"{moment(group.first_seen)} UTC",
                "last seen": f"{moment(group.last_seen)} UTC",
            }
        ),
        heading("Newest errors"),
        render_errors(shown.newest),
    ]
    if trace := next((error.stack_trace for error in shown.newest if error.stack_trace), None):
        parts += [heading("Newest stack trace"), lines(trace, _TRACE_LINES)]
    return Group(*parts)
