"""The demo's last page: what became of the jobs, what happened on the way, and whether the books balance."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.demo.books import DemoAudit
from console.output.screen import as_json, counted


@dataclass(frozen=True)
class Result:
    """How a demo went."""

    options: Mapping[str, Any]
    """What was asked for, the seed among it."""
    seconds: float
    audited: DemoAudit
    fleet: Mapping[str, int]
    """Its tally."""
    restarts: int
    """Of worker and beat, by the supervisor."""
    logs: Path
    in_time: bool

    @property
    def is_good(self) -> bool:
        """Whether the demo has shown what it is to show."""
        return self.in_time and self.audited.is_consistent

    def summary(self) -> dict[str, Any]:
        """As a machine reads it."""
        audited = self.audited
        return {
            "balanced": self.is_good,
            "in_time": self.in_time,
            "ordered": audited.ordered,
            "discovered": audited.discovered,
            **audited.sums,
            "seconds": round(self.seconds, 1),
            "jobs_per_second": round(audited.throughput, 1),
            "jobs_per_second_of_nine_tenths": round(audited.main_throughput, 1),
            "faults": [as_json(fault) for fault in audited.faults],
            "fleet": dict(self.fleet),
            "restarts": self.restarts,
            "logs": str(self.logs),
            "options": dict(self.options),
        }


def print_summary(screen: Console, result: Result) -> None:
    """Print it."""
    audited, sums, fleet = result.audited, result.audited.sums, result.fleet
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    rows = (
        (audited.ordered, "jobs ordered"),
        (audited.discovered, "jobs that followed from a discovery"),
        (sums["finished"], "finished"),
        (sums["failed"], "failed for good, their errors on record"),
        (sums["cancelled"], "cancelled"),
        (sums["open"], "still open" if sums["open"] else ""),
        (None, None),
        (sums["attempts"], f"attempts, {sums['retries']:,} of them not the first of their job"),
        (
            sums["losses"],
            f"attempts lost to {counted(fleet['died'], 'death')} and {counted(fleet['froze'], 'freeze')}",
        ),
        (sums["goodbyes"], f"given back at {counted(fleet['left'], 'goodbye')}"),
        (
            sums["tokens_died"],
            f"given up when a token died, which was renewed {_times(sums['tokens_renewed'])}",
        ),
        (sums["errors"], f"errors on record, {sums['redacted']} with an access token taken out"),
        (sums["stale_words"], "stale words counted; none of them changed anything"),
        (None, None),
    )
    for number, what in rows:
        if what != "":
            table.add_row("" if number is None else f"{number:,}", what or "")
    screen.print()
    screen.print(table)
    screen.print(
        f"{audited.seconds:.1f} s from the first order to the last end, {result.seconds:.0f} s in all:"
        f" {audited.throughput:,.0f} jobs/s, until nine tenths had ended {audited.main_throughput:,.0f}",
        soft_wrap=True,
    )
    _print_verdict(screen, result)
    screen.print(f"Logs: {result.logs}", soft_wrap=True)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _print_verdict(screen: Console, result: Result) -> None:
    if result.is_good:
        screen.print(Text("The books balance: every job is there once, and none is lost.", style="green"))
        return
    if not result.in_time:
        screen.print(Text("Not done in time.", style="red"))
    for fault in result.audited.faults:
        screen.print(Text(str(fault), style="red"), soft_wrap=True)
