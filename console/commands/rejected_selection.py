"""Which rejected messages are meant by a command that changes something, and whether it may."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from console.output.screen import counted, plain
from persistence.exceptions import IllegalRequestError
from persistence.messages.rejected_queries import (
    Rejected,
    RejectedCount,
    RejectedFilter,
    count_rejected,
    pages_of_rejected,
    read_rejected,
)


def select_rejected(ids: tuple[str, ...], filters: Mapping[str, Any]) -> RejectedFilter:
    """Those of the ids, or of the filters. Raises a usage error for both or none, and where an id is none."""
    if bool(ids) == any(value is not None for value in filters.values()):
        raise click.UsageError("Give either ids, or some of --reason, --task, --since, --until.")
    if not ids:
        return RejectedFilter(**filters)
    criteria = RejectedFilter(ids=tuple(dict.fromkeys(ids)))
    found = {rejected.id for rejected in read_rejected(criteria, limit=len(ids))}
    if missing := [id_ for id_ in criteria.ids or () if id_ not in found]:
        raise IllegalRequestError(f"there is no rejected message {plain(', '.join(missing))}")
    return criteria


def confirm_count(criteria: RejectedFilter, action: str, *, free: bool) -> RejectedCount:
    """
    Count them, and let somebody at a terminal agree where there are many that nobody has named.

    Raises IllegalRequestError where nobody does. *free*: nobody needs to.
    """
    count = count_rejected(criteria)
    if free or criteria.ids or count.number <= 1:
        return count
    if not (sys.stdin.isatty() and click.confirm(f"{action} {counted(count.number, 'message')}?", err=True)):
        raise IllegalRequestError(
            f"{counted(count.number, 'message')} are meant, and nothing was changed: --yes goes on, "
            "--dry-run shows them"
        )
    return count


def pages(criteria: RejectedFilter, count: RejectedCount) -> Iterator[list[Rejected]]:
    """The messages, page by page; who waits for many is told how far it is."""
    done = 0
    for page in pages_of_rejected(criteria, count.moment):
        yield page
        done += len(page)
        if count.number > done:
            click.echo(f"{done:,} of {count.number:,} …", err=True)
