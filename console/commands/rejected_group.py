"""`crawlyard rejected …`: what can be asked of rejected messages, and done about them."""
# ruff: noqa: PLC0415 - every command imports what it needs itself, so that --help is there at once

from collections.abc import Callable
from datetime import timedelta
from typing import IO, Any, TypeAlias

import click

from console.options import as_json, duration, limited

Body: TypeAlias = Callable[..., Any]

_FILTERS = (
    click.option("--reason", help="Of this reason alone, such as invalid."),
    click.option("--task", help="For this task alone, such as jobs.submit."),
    click.option("--since", type=duration, help="Not older than this: 90s, 15min, 2h, 7d."),
    click.option("--until", type=duration, help="Not younger than this."),
)

_LAST = (
    click.option("--dry-run", is_flag=True, help="Only say what would be done."),
    click.option("--yes", is_flag=True, help="Do not ask, however many there are."),
    as_json,
)


def _with(*options: Callable[[Body], Body]) -> Callable[[Body], Body]:
    def decorate(body: Body) -> Body:
        for option in reversed(options):
            body = option(body)
        return body

    return decorate


_ids = click.argument("ids", nargs=-1, metavar="[ID]...")
_settling = _with(_ids, *_FILTERS, *_LAST)


@click.group()
def rejected() -> None:
    """Look through the messages that could not be accepted, send them again, or delete them."""


@rejected.command("list")
@_with(*_FILTERS, limited(20), as_json)
def list_rejected(limit: int, *, as_json: bool, **filters: Any) -> None:
    """List rejected messages, the newest first."""
    from console.commands.rejected import show_rejected
    from persistence.messages.rejected_queries import RejectedFilter

    show_rejected(RejectedFilter(**filters), limit=limit, as_json=as_json)


@rejected.command("show")
@click.argument("id_", metavar="ID")
@as_json
def show_rejected(id_: str, *, as_json: bool) -> None:
    """Show one rejected message with its payload."""
    from console.commands.rejected import show_rejection

    show_rejection(id_, as_json=as_json)


@rejected.command("replay", no_args_is_help=True)
@_with(
    _ids,
    *_FILTERS,
    click.option("--payload", type=click.File(encoding="utf-8"), metavar="FILE",
                 help="Send this JSON instead, of one message that was mended by hand; - is standard input."),
    *_LAST,
)  # fmt: skip
def replay(
    ids: tuple[str, ...],
    payload: IO[str] | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **filters: timedelta | str | None,
) -> int:
    """
    Send rejected messages again, by their ids or all that the options fit; the oldest first.

    Each is published as a message of its own, and then deleted here; an item of a batch becomes a batch of one.
    If it is rejected again, it is kept again, under a new id. One whose payload was cut, or held a
    secret, is not what was sent any more: it stays here, and so does one that the contract refuses.
    The exit code is 1 then. Interrupted and begun anew, a message may be published
    twice: under the same message id, so that a worker handles it once, unless its payload was mended.
    """
    from console.commands.rejected_replay import replay

    return replay(ids, filters, payload=payload, dry_run=dry_run, yes=yes, as_json=as_json)


@rejected.command("discard", no_args_is_help=True)
@_settling
def discard(
    ids: tuple[str, ...], *, dry_run: bool, yes: bool, as_json: bool, **filters: timedelta | str | None
) -> None:
    """Delete rejected messages for good, by their ids or all that the options fit."""
    from console.commands.rejected_discard import discard

    discard(ids, filters, dry_run=dry_run, yes=yes, as_json=as_json)
