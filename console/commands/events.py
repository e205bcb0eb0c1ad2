"""`crawlyard events`: prints events, one JSON object per line."""

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
    """The options of the command; see its help."""

    follow: bool
    account: str | None
    jobs: tuple[str, ...]
    types: tuple[str, ...]
    start: str | None
    limit: int | None


def show_events(options: EventsOptions) -> None:
    """Print the stored events, or with *follow* also new ones, until Ctrl-C or until the limit is reached."""
    for item in islice(_items(options), options.limit):
        screen.print_json(_line(item), indent=None)  # which flushes it


def _items(options: EventsOptions) -> Iterator[Event | Gap]:
    point = _point(options.start or (NOW if options.follow else BEGINNING))
    matching = _filter(options)
    settings()  # an invalid setting is reported here, in one line
    check_head()
    with Subscription(point, matching, lost=_report_loss) as subscription:
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


def _report_loss(error: TransientError) -> None:
    """Called once for a lost connection, and once for each failed attempt to reconnect."""
    click.echo(f"crawlyard: {reason(error)} Trying again.", err=True)
