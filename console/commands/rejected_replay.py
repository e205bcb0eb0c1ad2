"""`crawlyard rejected replay`: published anew, then deleted; at least once."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, TypeAlias

import click
from ulid import ULID

from console.commands.publishing import producer
from console.commands.rejected_selection import confirm_count, pages, select_rejected
from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.output.screen import counted, plain
from persistence.messages.rejected_queries import Rejected, discard_rejected
from tasks.client import Producer
from tasks.runtime.replay import UnreplayableError, edited_arguments, original_arguments

Reading: TypeAlias = Callable[[Rejected], tuple[str, dict[str, Any]]]
"""The message id and the arguments with which a rejected message is sent again."""


@dataclass(frozen=True)
class Replayed:
    """A message that was sent again."""

    id: str
    task: str
    message_id: str


@dataclass(frozen=True)
class Refused:
    """A message that stays where it is."""

    id: str
    task: str | None
    why: str


@dataclass
class Outcome:
    """What became of the messages."""

    dry_run: bool
    replayed: list[Replayed] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def replay(
    ids: tuple[str, ...],
    filters: Mapping[str, Any],
    *,
    payload: IO[str] | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Send messages again and print what became of each; returns the exit code, 1 where some stay."""
    if payload is not None and len(ids) != 1:
        raise click.UsageError("--payload is for one message: give its id.")
    read = _as_kept if payload is None else partial(_as_edited, _json(payload))
    criteria = select_rejected(ids, filters)
    count = confirm_count(criteria, "Send again", free=yes or dry_run)
    outcome = Outcome(dry_run)
    with producer() as publisher:
        for page in pages(criteria, count):
            _replay(page, read, publisher, outcome)
    if as_json:
        screen.print_json(outcome)
    else:
        _tell(outcome)
    return FAILED_CHECK if outcome.refused else 0


def _json(file: IO[str]) -> Any:
    try:
        return json.load(file)
    except (ValueError, RecursionError):
        raise click.BadParameter("it is no JSON", param_hint="--payload") from None


def _as_kept(rejected: Rejected) -> tuple[str, dict[str, Any]]:
    """Published twice, since the first time was interrupted before the deletion, it is handled once."""
    return f"replay-{rejected.id}", original_arguments(rejected.task, rejected.reason, rejected.payload)


def _as_edited(payload: Any, rejected: Rejected) -> tuple[str, dict[str, Any]]:
    """Another message than any that was sent before."""
    return str(ULID()), edited_arguments(rejected.task, payload)


def _replay(page: Sequence[Rejected], read: Reading, publisher: Producer, outcome: Outcome) -> None:
    """Publish what can be, then delete it; also where the broker, or Ctrl-C, ends it halfway."""
    published: list[str] = []
    try:
        for rejected in page:
            try:
                message_id, arguments = read(rejected)
            except UnreplayableError as error:
                outcome.refused.append(Refused(rejected.id, rejected.task, str(error)))
                continue
            task = str(rejected.task)
            if not outcome.dry_run:
                publisher.publish(task, arguments, message_id)
                published.append(rejected.id)
            outcome.replayed.append(Replayed(rejected.id, task, message_id))
    finally:
        discard_rejected(published)


def _tell(outcome: Outcome) -> None:
    for one in outcome.replayed:
        click.echo(f"{one.id}  {one.task}, as message {one.message_id}")
    for stays in outcome.refused:
        click.echo(f"{stays.id}  stays: {plain(stays.why)}")
    label = "Would be sent again" if outcome.dry_run else "Sent again"
    click.echo(f"{label}: {counted(len(outcome.replayed), 'message')}; {len(outcome.refused):,} stay.")
