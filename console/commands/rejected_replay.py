"""Sends rejected messages again: publishes each one, then deletes it, so that none is lost in between."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, TypeAlias

import click
from ulid import ULID

from console.commands.publishing import producer
from console.output.screen import counted, plain
from persistence.db.json_bounds import MAX_BYTES, TooDeepError, TooLargeError, parse_json
from persistence.messages.rejected_queries import Rejected, discard_rejected
from tasks.client import Producer
from tasks.runtime.replay import UnreplayableError, edited_arguments, original_arguments

Reader: TypeAlias = Callable[[Rejected], tuple[str, dict[str, Any]]]
"""Returns the message id and the arguments with which a rejected message is sent again."""


@dataclass(frozen=True)
class Replayed:
    """A message that was sent again."""

    id: str
    task: str
    message_id: str


@dataclass(frozen=True)
class Refused:
    """A message that was not sent again, and stays in the list."""

    id: str
    task: str | None
    why: str


@dataclass
class ReplayOutcome:
    """Which messages were sent again, and which were not."""

    dry_run: bool
    replayed: list[Replayed] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def reader_for(payload: IO[str] | None) -> Reader:
    """
    Return how to read a rejected message: as it is stored, or with the JSON of the file *payload* instead.

    Raises a usage error if the file is not JSON, or beyond the bounds of a message.
    """
    if payload is None:
        return _as_stored
    try:
        text = payload.read(MAX_BYTES + 1).encode(errors="surrogatepass")
        return partial(_as_edited, parse_json(text))
    except (TooLargeError, TooDeepError) as error:
        raise click.BadParameter(f"the file cannot be a payload: {error}", param_hint="--payload") from None
    except ValueError:
        raise click.BadParameter("the file is not JSON", param_hint="--payload") from None


def replay_messages(pages: Iterable[Sequence[Rejected]], read: Reader, *, dry_run: bool) -> ReplayOutcome:
    """Send the messages again, except those that *read* refuses."""
    outcome = ReplayOutcome(dry_run)
    with producer() as publisher:
        for page in pages:
            _replay_page(page, read, publisher, outcome)
    return outcome


def print_outcome(outcome: ReplayOutcome) -> None:
    """Print one line per message, and the totals."""
    for sent in outcome.replayed:
        click.echo(f"{sent.id}  {sent.task}, as message {sent.message_id}")
    for refused in outcome.refused:
        click.echo(f"{refused.id}  not sent: {plain(refused.why)}")
    label = "Would be sent again" if outcome.dry_run else "Sent again"
    click.echo(f"{label}: {counted(len(outcome.replayed), 'message')}; not sent: {len(outcome.refused):,}.")


def _as_stored(rejected: Rejected) -> tuple[str, dict[str, Any]]:
    """The id follows from the row: a message that is published twice, since a replay was interrupted, runs once."""
    return f"replay-{rejected.id}", original_arguments(rejected.task, rejected.reason, rejected.payload)


def _as_edited(payload: Any, rejected: Rejected) -> tuple[str, dict[str, Any]]:
    """An edited payload is a new message, so it gets a new id."""
    return str(ULID()), edited_arguments(rejected.task, payload)


def _replay_page(page: Sequence[Rejected], read: Reader, publisher: Producer, outcome: ReplayOutcome) -> None:
    """Publish what can be published, then delete it, even if the broker or Ctrl-C ends the page halfway."""
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
