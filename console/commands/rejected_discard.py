"""`crawlyard rejected discard`: deleted, unread."""

from collections.abc import Mapping
from typing import Any

import click

from console.commands.rejected_selection import confirm_count, pages, select_rejected
from console.output import screen
from console.output.screen import counted
from persistence.messages.rejected_queries import discard_rejected


def discard(
    ids: tuple[str, ...], filters: Mapping[str, Any], *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Delete messages, and print how many there were."""
    criteria = select_rejected(ids, filters)
    count = confirm_count(criteria, "Delete", free=yes or dry_run)
    if not dry_run:
        for page in pages(criteria, count):
            discard_rejected([rejected.id for rejected in page])
    if as_json:
        screen.print_json({"dry_run": dry_run, "discarded": count.number})
    else:
        label = "Would be deleted" if dry_run else "Deleted"
        click.echo(f"{label}: {counted(count.number, 'message')}.")
