"""Options that several commands share."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

import click

Body: TypeAlias = Callable[..., Any]
Option: TypeAlias = Callable[[Body], Body]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")


_MOST_ROWS = 10_000

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_LONGEST_S = 36_500 * _UNITS["d"]
_DURATION = re.compile(r"(?P<count>\d{1,12}(?:\.\d{1,6})?) ?(?P<unit>s|m|min|h|d)", re.ASCII)


def with_options(*options: Option) -> Option:
    """Add several options to a command, in this order."""

    def decorate(body: Body) -> Body:
        for option in reversed(options):
            body = option(body)
        return body

    return decorate


def limited(default: int) -> Option:
    """The option for the maximum number of rows."""
    return click.option(
        "--limit",
        type=click.IntRange(1, _MOST_ROWS),
        default=default,
        show_default=True,
        help="Maximum number of rows.",
    )


def duration(value: str | timedelta) -> timedelta:
    """Parse a duration such as `90s`, `15min`, `2h` or `7d`. Raises a usage error for anything else."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 90s, 15min, 2h or 7d")
    seconds = float(match["count"]) * _UNITS[match["unit"]]
    if not 0 < seconds <= _LONGEST_S:
        raise click.BadParameter("must be more than 0, and at most 36500d")
    return timedelta(seconds=seconds)
