"""Small panels of names and figures, of which the views of status and statistics consist."""

from collections.abc import Mapping, Sequence

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from console.output.screen import plain

_PANEL_WIDTH = 36
_MOST = 8
"""Maximum number of rows in a panel whose names come from the data."""

Cell = int | str | Text
Row = tuple[str, Cell]


def panel(title: str, rows: Sequence[Row]) -> Panel:
    """Names on the left, figures on the right; all panels have the same width."""
    cells = [(Text(name, style="dim" if name.startswith(" ") else ""), cell(value)) for name, value in rows]
    table = Table.grid(padding=(0, 1), expand=True)
    # Names get the width that the figures leave: a long name is cut, a figure never is.
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    return Panel(table, title=f"[bold]{title}[/]", title_align="left", width=_PANEL_WIDTH, border_style="dim")


def count_rows(counts: Mapping[str, int], style: str = "") -> list[Row]:
    """Rows for names that come from the data, the most frequent first; the rest are summed as others."""
    rows: list[Row] = [(plain(name) or "(none)", Text(f"{n:,}", style=style)) for name, n in counts.items()]
    if len(rows) > _MOST:
        rows[_MOST:] = [("others", sum(list(counts.values())[_MOST:]))]
    return rows or [("none", Text())]


def alarming(count: int) -> Cell:
    """A figure that should be zero: red otherwise."""
    return Text(f"{count:,}", style="red") if count else count


def cell(value: Cell) -> Text:
    """A figure with thousands separators, dim if it is zero."""
    if isinstance(value, int):
        return Text(f"{value:,}", style="dim" if value == 0 else "")
    return value if isinstance(value, Text) else Text(value)
