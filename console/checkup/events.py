"""`crawlyard events`: what happened, and with --follow what happens, one JSON object a line."""

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import click
import psycopg

from console.cli.screen import as_json
from persistence.event_cursor import starting_point
from persistence.event_stream import Event, EventFilter, EventReader, Gap
from persistence.exceptions import IllegalRequestError, raised_as_ours
from persistence.inspection import check_head
from persistence.schema.vocabulary import EventType
from persistence.settings import settings
from persistence.subscription import Subscription


def show_events(
    *,
    follow: bool,
    account: str | None,
    jobs: Sequence[str],
    types: Sequence[str],
    point: str,
    limit: int | None,
) -> int:
    """Print events from *point* on; returns the exit code."""
    settings()
    if unknown := [name for name in types if name not in set(EventType)]:
        raise IllegalRequestError(f"there are no events {unknown[0]}; there are {', '.join(EventType)}")
    start = starting_point(point)
    check_head()
    matching = EventFilter(account, tuple(jobs) or None, tuple(types) or None)
    if follow:
        with Subscription(
            start, matching, lost=lambda error: click.echo(f"crawlyard: {error}", err=True)
        ) as events:
            _print(islice(events, limit))
        return 0
    with raised_as_ours(), psycopg.connect(settings().psycopg_url, autocommit=True) as connection:
        reader = EventReader(connection, matching)
        _print(islice(reader.read(reader.start(start)), limit))
    return 0


def _print(items: Iterable[Event | Gap]) -> None:
    """Each at once: somebody waits at the other end of the pipe."""
    for item in items:
        click.echo(json.dumps(_line(item), ensure_ascii=False))


def _line(item: Event | Gap) -> dict[str, Any]:
    cursor = {"cursor": str(item.cursor)}
    if isinstance(item, Gap):
        return {"gap": True} | cursor
    return {name: as_json(value) for name, value in vars(item).items()} | cursor
