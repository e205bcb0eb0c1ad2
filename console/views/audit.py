"""How an audit looks on a terminal: one line per check."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from console.output.screen import counted, plain
from persistence.audit.audit import Fault
from persistence.audit.checks.check import Check


def line(name: str, fault: Fault | None) -> Text:
    """`ok` and the name, or `FAIL` and the fault."""
    if fault is None:
        return Text.assemble(("ok  ", "green"), " ", name)
    return Text.assemble(("FAIL", "bold red"), " ", plain(str(fault)))


def running(names: Sequence[str], ended: int) -> Text:
    """The check that is running."""
    name = names[min(ended, len(names) - 1)]
    return Text(f"{min(ended + 1, len(names))} of {len(names)}: {name}")


def summary(taken_at: datetime, seconds: float, checks: int, faults: Sequence[Fault]) -> Text:
    """The last line."""
    when = f" as of {taken_at:%Y-%m-%d %H:%M:%S %Z}, in {seconds:.1f} s: "
    if not faults:
        return Text.assemble(counted(checks, "check"), when, ("no faults.", "green"))
    return Text.assemble(counted(checks, "check"), when, (f"{counted(len(faults), 'fault')}.", "bold red"))


def checks(known: Iterable[Check]) -> Table:
    """All checks with their meaning."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for check in known:
        table.add_row(check.name, Text(check.meaning, "dim"))
    return table
