"""`crawlyard events`: what happens, a JSON object a line, for pipes and for the eye."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import click

from console.output import screen
from console.output.urls import reason
from persistence.events.cursor import BEGINNING, NOW, EventCursor, starting_point
from persistence.events.stream import Event, EventFilter, Gap
from persistence.events.subscription import Subscription
from persistence.exceptions import IllegalRequestError, TransientError
from persistence.migrations.head import check_head
from persistence.schema.event_types import EventType
from persistence.settings import settings


@dataclass(frozen=True)
class EventsOptions:
    """What was asked for."""

    follow: bool
    account: str | None
    jobs: tuple[str, ...]
    types: tuple[str, ...]
    start: str | None
    limit: int | None


def show_events(options: EventsOptions) -> None:
    """Print what can be read, or with *follow* also what comes, until Ctrl-C or the limit is reached."""
    for item in islice(_items(options), options.limit):
        screen.print_json(_line(item), indent=None)  # and flush it


def _items(options: EventsOptions) -> Iterator[Event | Gap]:
    point = _point(options.start or (NOW if options.follow else BEGINNING))
    matching = _filter(options)
    settings()  # a wrong one ends it here, in one line
    check_head()
    with Subscription(point, matching, lost=_complain) as subscription:
        yield from subscription if options.follow else subscription.so_far()


def _point(text: str) -> EventCursor | str:
    try:
        return starting_point(text)
    except IllegalRequestError as error:
        raise click.BadParameter(f"{error}, or beginning, or now", param_hint="--from") from None


def _filter(options: EventsOptions) -> EventFilter:
    if unknown := [name for name in options.types if name not in list(EventType)]:
        raise click.BadParameter(
            f"there is no type {unknown[0]!r}; there are {', '.join(EventType)}", param_hint="--type"
        )
    return EventFilter(options.account, options.jobs or None, options.types or None)


def _line(item: Event | Gap) -> dict[str, object]:
    if isinstance(item, Gap):
        return {"gap": True, "cursor": str(item.cursor)}
    return {"cursor": str(item.cursor)} | {
        name: value for name, value in vars(item).items() if name != "cursor"
    }


def _complain(error: TransientError) -> None:
    """Once a lost connection, and once an attempt to have another."""
    click.echo(f"crawlyard: {reason(error)} Trying again.", err=True)
