"""Pieces that errors and rejected messages are shown with. All text in them is others', so none is markup."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from console.output.screen import counted, plain

_TAB = 4


def moment(time: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def heading(text: str) -> Text:
    """A line that begins a part."""
    return Text(f"\n{text}", style="bold")


def facts(named: Mapping[str, str]) -> RenderableType:
    """A line each, the names below each other."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in named.items():
        table.add_row(name, Text(plain(fact)))
    return table


def rows_of_two(left: str, right: str, rows: Iterable[tuple[Text, Text, Text, Text]]) -> RenderableType:
    """Two lines a row: above left and right, below left and right; what is too long on the right is cut."""
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
    table.add_column(left, no_wrap=True)
    table.add_column(right, ratio=1, no_wrap=True, overflow="ellipsis")
    for above_left, above_right, below_left, below_right in rows:
        table.add_row(above_left, above_right)
        table.add_row(below_left, below_right)
    return table


def lines(text: str, most: int) -> Text:
    """A text of several lines, the first of them where there are more."""
    every = text.expandtabs(_TAB).splitlines()
    shown = [plain(line) for line in every[:most]]
    if len(every) > most:
        shown.append(f"… {counted(len(every) - most, 'more line')}; --json has them all")
    return Text("\n".join(shown), overflow="fold")
