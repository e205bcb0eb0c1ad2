"""`crawlyard rejected`: list messages that were not accepted, send them again, or delete them."""
# ruff: noqa: PLC0415 - a command imports what it needs in its body, so that --help prints without delay

import sys
from typing import IO, TYPE_CHECKING, Any

import click

from console.options import as_json, duration, limited, with_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from persistence.messages.rejected_queries import Rejected, RejectedCount, RejectedFilter

_FILTERS = (
    click.option("--reason", help="Only messages rejected for this reason, such as invalid."),
    click.option("--task", help="Only messages for this task, such as jobs.submit."),
    click.option("--since", type=duration, help="Only messages at most this old: 90s, 15min, 2h, 7d."),
    click.option("--until", type=duration, help="Only messages at least this old."),
)

_IDS = click.argument("ids", nargs=-1, metavar="[ID]...")

_CONFIRMATION = (
    click.option("--dry-run", is_flag=True, help="Only print what would be done."),
    click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
    as_json,
)


@click.group()
def rejected() -> None:
    """List the messages that were not accepted, send them again, or delete them."""


@rejected.command("list")
@with_options(*_FILTERS, limited(20), as_json)
def list_rejected(limit: int, *, as_json: bool, **filters: Any) -> None:
    """List rejected messages, the newest first."""
    from console.output import screen
    from console.views.rejected import render_list
    from persistence.messages.rejected_queries import RejectedFilter, read_rejected

    found = read_rejected(RejectedFilter(**filters), limit=limit)
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo("No messages match.")
    else:
        screen.console().print(render_list(found))


@rejected.command("show")
@click.argument("id_", metavar="ID")
@as_json
def show_rejected(id_: str, *, as_json: bool) -> None:
    """Show one rejected message with its payload."""
    from console.output import screen
    from console.views.rejected import render_one
    from persistence.messages.rejected_queries import read_rejection

    found = read_rejection(id_)
    if as_json:
        screen.print_json(found)
    else:
        screen.console().print(render_one(found))


@rejected.command("replay", no_args_is_help=True)
@with_options(
    _IDS,
    *_FILTERS,
    click.option("--payload", type=click.File(encoding="utf-8"), metavar="FILE",
                 help="Send this JSON in place of the payload of one message; - reads standard input."),
    *_CONFIRMATION,
)  # fmt: skip
def replay(
    ids: tuple[str, ...],
    payload: IO[str] | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **filters: Any,
) -> int:
    """
    Send rejected messages again, selected by id or by the options, the oldest first.

    Each one is published as a message of its own and then deleted from the list; an item of a batch becomes a
    batch of one. If it is rejected again, it is stored again under a new id.

    A message stays in the list, and the exit code is 1, if its payload was cut or contained a secret,
    so that it is no longer what was sent, or if the contract refuses it.

    A replay that was interrupted may publish a message twice when it is repeated. A worker handles it
    once, since both have the same message id, unless --payload was given.
    """
    from console.commands.rejected_replay import print_outcome, reader_for, replay_messages
    from console.output import screen
    from console.output.exit_codes import FAILED_CHECK

    if payload is not None and len(ids) != 1:
        raise click.UsageError("--payload replaces the payload of one message: give one id.")
    read = reader_for(payload)
    criteria = _select(ids, filters)
    count = _confirm(criteria, "Send again", skip=yes or dry_run)
    outcome = replay_messages(_pages(criteria, count), read, dry_run=dry_run)
    if as_json:
        screen.print_json(outcome)
    else:
        print_outcome(outcome)
    return FAILED_CHECK if outcome.refused else 0


@rejected.command("discard", no_args_is_help=True)
@with_options(_IDS, *_FILTERS, *_CONFIRMATION)
def discard(ids: tuple[str, ...], *, dry_run: bool, yes: bool, as_json: bool, **filters: Any) -> None:
    """Delete rejected messages, selected by id or by the options."""
    from console.output import screen
    from console.output.screen import counted
    from persistence.messages.rejected_queries import discard_rejected

    criteria = _select(ids, filters)
    count = _confirm(criteria, "Delete", skip=yes or dry_run)
    if not dry_run:
        for page in _pages(criteria, count):
            discard_rejected([message.id for message in page])
    if as_json:
        screen.print_json({"dry_run": dry_run, "discarded": count.number})
    else:
        label = "Would be deleted" if dry_run else "Deleted"
        click.echo(f"{label}: {counted(count.number, 'message')}.")


def _select(ids: tuple[str, ...], filters: "Mapping[str, Any]") -> "RejectedFilter":
    """Select by ids or by filters. Raises a usage error for both or none, IllegalRequestError for an unknown id."""
    from console.output.screen import plain
    from persistence.exceptions import IllegalRequestError
    from persistence.messages.rejected_queries import RejectedFilter, read_rejected

    if bool(ids) == any(value is not None for value in filters.values()):
        raise click.UsageError("Give either ids or at least one of --reason, --task, --since, --until.")
    if not ids:
        return RejectedFilter(**filters)
    criteria = RejectedFilter(ids=tuple(dict.fromkeys(ids)))
    found = {message.id for message in read_rejected(criteria, limit=len(ids))}
    if missing := [id_ for id_ in criteria.ids or () if id_ not in found]:
        raise IllegalRequestError(f"there is no rejected message {plain(', '.join(missing))}")
    return criteria


def _confirm(criteria: "RejectedFilter", action: str, *, skip: bool) -> "RejectedCount":
    """
    Count the messages, and ask for confirmation if filters selected more than one.

    Raises IllegalRequestError without a confirmation, or without a terminal to ask at. *skip*: do not ask.
    """
    from console.output.screen import counted
    from persistence.exceptions import IllegalRequestError
    from persistence.messages.rejected_queries import count_rejected

    count = count_rejected(criteria)
    if skip or criteria.ids or count.number <= 1:
        return count
    if not (sys.stdin.isatty() and click.confirm(f"{action} {counted(count.number, 'message')}?", err=True)):
        raise IllegalRequestError(
            f"nothing was changed: {counted(count.number, 'message')} are selected and need a confirmation; "
            "pass --yes to confirm, or --dry-run to list them"
        )
    return count


def _pages(criteria: "RejectedFilter", count: "RejectedCount") -> "Iterator[list[Rejected]]":
    """Read the messages page by page, and print the progress between pages."""
    from persistence.messages.rejected_queries import pages_of_rejected

    done = 0
    for page in pages_of_rejected(criteria, count.moment):
        yield page
        done += len(page)
        if count.number > done:
            click.echo(f"{done:,} of {count.number:,} …", err=True)
