"""How rejected messages look on a terminal."""

import json
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from console.output.layout import facts, heading, lines, moment, rows_of_two
from console.output.screen import plain
from persistence.messages.rejected_queries import Rejected

_PAYLOAD_LINES = 200


def render_list(rejected: Sequence[Rejected]) -> RenderableType:
    """Two lines per message."""
    return rows_of_two("when (UTC), id", "reason, task, detail", (_row(one) for one in rejected))


def render_one(rejected: Rejected) -> RenderableType:
    """One message with its payload."""
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


def _row(rejected: Rejected) -> tuple[Text, Text, Text, Text]:
    return (
        Text(moment(rejected.rejected_at)),
        Text.assemble((plain(rejected.reason), "yellow"), f"  {plain(rejected.task or '(no task)')}"),
        Text(plain(rejected.id), style="dim"),
        Text(plain(rejected.detail), style="dim"),
    )
