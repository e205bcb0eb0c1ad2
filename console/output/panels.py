"""Small panels of names and figures, as the views of the database are made of them."""

from collections.abc import Mapping, Sequence

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from console.output.screen import plain

_PANEL_WIDTH = 36
_MOST = 8
"""Rows of a panel whose words are others'."""

Cell = int | str | Text
Row = tuple[str, Cell]


def panel(title: str, rows: Sequence[Row]) -> Panel:
    """Names on the left, figures on the right; all panels are as wide as each other."""
    cells = [(Text(name, style="dim" if name.startswith(" ") else ""), cell(value)) for name, value in rows]
    table = Table.grid(padding=(0, 1), expand=True)
    # The names get what the figures leave: a long one is cut, and costs no figure.
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    return Panel(table, title=f"[bold]{title}[/]", title_align="left", width=_PANEL_WIDTH, border_style="dim")


def count_rows(counts: Mapping[str, int], style: str = "") -> list[Row]:
    """Others' words by their counts, the most frequent first."""
    rows: list[Row] = [(plain(word) or "(none)", Text(f"{n:,}", style=style)) for word, n in counts.items()]
    if len(rows) > _MOST:
        rows[_MOST:] = [("others", sum(list(counts.values())[_MOST:]))]
    return rows or [("none", Text())]


def alarming(count: int) -> Cell:
    """A figure that should be none."""
    return Text(f"{count:,}", style="red") if count else count


def cell(value: Cell) -> Text:
    """A figure with its thousands, pale where it is none."""
    if isinstance(value, int):
        return Text(f"{value:,}", style="dim" if value == 0 else "")
    return value if isinstance(value, Text) else Text(value)
