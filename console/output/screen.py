"""Printing to the terminal: colours only there, readable durations, and no control codes from the data."""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Console

from console.output.encoding import can_print

_PIPE_WIDTH = 120
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def console() -> Console:
    """Return a console for standard output. Without a terminal, or with NO_COLOR set, it prints no colours."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print one JSON value, with times in ISO 8601 and durations in seconds."""
    text = json.dumps(as_json(value), indent=indent, ensure_ascii=False)
    click.echo(text if can_print(text) else json.dumps(as_json(value), indent=indent))


def as_json(value: Any) -> Any:
    """Convert dataclasses to objects, times to text and durations to seconds; leave the rest as it is."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    if is_dataclass(value):
        return {name: as_json(part) for name, part in vars(value).items()}
    if isinstance(value, Mapping):
        return {name: as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    return value


def duration(time: timedelta) -> str:
    """Format a duration in its largest unit and the next smaller one: `2 h 5 min`, `40 s`."""
    seconds = max(time.total_seconds(), 0.0)
    for place, (unit, size) in enumerate(_UNITS):
        if seconds >= size:
            count, rest = divmod(int(seconds), size)
            smaller, smaller_size = (*_UNITS, ("s", 1))[place + 1]
            part = rest // smaller_size
            return f"{count} {unit} {part} {smaller}" if part else f"{count} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 or not seconds else f"{seconds:.1f} s"


def plain(text: str) -> str:
    """Make text from the data safe for a terminal: replace each unprintable character by a dot."""
    return "".join(character if character.isprintable() else "·" for character in text)


def counted(number: int, one: str, many: str = "") -> str:
    """Format a number with its noun: `1 job`, `2 jobs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
