"""Layouts for errors and rejected messages. Their text comes from crawlers, so none of it is read as markup."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from console.output.screen import counted, plain

_TAB = 4


def moment(time: datetime) -> str:
    """Format a time in UTC, to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def heading(text: str) -> Text:
    """The heading of a section."""
    return Text(f"\n{text}", style="bold")


def facts(named: Mapping[str, str]) -> RenderableType:
    """One line per fact, with aligned names."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in named.items():
        table.add_row(name, Text(plain(fact)))
    return table


def rows_of_two(left: str, right: str, rows: Iterable[tuple[Text, Text, Text, Text]]) -> RenderableType:
    """
    Two lines per row, in two columns; text that is too long on the right is cut.

    A row is above left, above right, below left, below right.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
    table.add_column(left, no_wrap=True)
    table.add_column(right, ratio=1, no_wrap=True, overflow="ellipsis")
    for above_left, above_right, below_left, below_right in rows:
        table.add_row(above_left, above_right)
        table.add_row(below_left, below_right)
    return table


def lines(text: str, most: int) -> Text:
    """At most *most* lines of a text, followed by the number of those left out."""
    every = text.expandtabs(_TAB).splitlines()
    shown = [plain(line) for line in every[:most]]
    if len(every) > most:
        shown.append(f"… {counted(len(every) - most, 'more line')}; --json prints all")
    return Text("\n".join(shown), overflow="fold")
