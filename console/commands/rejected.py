"""`crawlyard rejected`: messages that could not be accepted, and why."""

import json
from collections.abc import Sequence

import click
from rich.console import Group, RenderableType
from rich.text import Text

from console.output import screen
from console.output.layout import facts, heading, lines, moment, rows_of_two
from console.output.screen import plain
from persistence.messages.rejected_queries import Rejected, RejectedFilter, read_rejected, read_rejection

_PAYLOAD_LINES = 200


def show_rejected(criteria: RejectedFilter, *, limit: int, as_json: bool) -> None:
    """Print rejected messages, the newest first."""
    found = read_rejected(criteria, limit=limit)
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo("There are no such messages.")
    else:
        screen.console().print(_render_list(found))


def show_rejection(rejected_id: str, *, as_json: bool) -> None:
    """Print one, with its payload."""
    found = read_rejection(rejected_id)
    if as_json:
        screen.print_json(found)
    else:
        screen.console().print(_render_one(found))


def _render_list(rejected: Sequence[Rejected]) -> RenderableType:
    return rows_of_two("when (UTC), id", "reason, task, detail", (_row(one) for one in rejected))


def _row(rejected: Rejected) -> tuple[Text, Text, Text, Text]:
    return (
        Text(moment(rejected.rejected_at)),
        Text.assemble((plain(rejected.reason), "yellow"), f"  {plain(rejected.task or '(no task)')}"),
        Text(plain(rejected.id), style="dim"),
        Text(plain(rejected.detail), style="dim"),
    )


def _render_one(rejected: Rejected) -> RenderableType:
    return Group(
        Text(plain(rejected.id), style="bold"),
        facts(
            {
                "reason": rejected.reason,
                "task": rejected.task or "(none)",
                "message id": rejected.message_id or "(none)",
                "rejected at": f"{moment(rejected.rejected_at)} UTC",
                "detail": rejected.detail or "(none)",
            }
        ),
        heading("Payload"),
        lines(json.dumps(rejected.payload, indent=2, ensure_ascii=False), _PAYLOAD_LINES),
    )
