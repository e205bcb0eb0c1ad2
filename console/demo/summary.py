"""The demo's summary: what became of the jobs, what happened to them, and what the audit found."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.demo.audit import DemoAudit
from console.output.screen import as_json, counted


@dataclass(frozen=True)
class Result:
    """How a demo went."""

    options: Mapping[str, Any]
    """The options of the command, with the seed that was used."""
    seconds: float
    audited: DemoAudit
    fleet: Mapping[str, int]
    """The counts of the fleet."""
    restarts: int
    """How often the worker and beat crashed and were restarted."""
    logs: Path
    in_time: bool

    @property
    def is_good(self) -> bool:
        """True if the demo ended in time and the audit found no fault."""
        return self.in_time and self.audited.is_consistent

    def summary(self) -> dict[str, Any]:
        """Return the result for --json."""
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
    """Print the result as text."""
    audited, sums, fleet = result.audited, result.audited.sums, result.fleet
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    rows = (
        (audited.ordered, "jobs ordered"),
        (audited.discovered, "jobs found by a discovery"),
        (sums["finished"], "finished"),
        (sums["failed"], "failed, with their errors in the log"),
        (sums["cancelled"], "cancelled"),
        (sums["open"], "still open" if sums["open"] else ""),
        (None, None),
        (sums["attempts"], f"attempts, {sums['retries']:,} of them retries"),
        (
            sums["losses"],
            f"attempts lost: {_crawlers(fleet['died'])} died, {_crawlers(fleet['froze'])} froze",
        ),
        (sums["goodbyes"], f"attempts returned: {_crawlers(fleet['left'])} disconnected"),
        (
            sums["tokens_died"],
            f"attempts stopped by an expired token, which was renewed {_times(sums['tokens_renewed'])}",
        ),
        (sums["errors"], f"errors in the log, {sums['redacted']} with an access token redacted"),
        (sums["stale_words"], "stale frames, counted and ignored"),
        (fleet["undelivered"], "reports that came too late, which no worker saw"),
        (fleet["links_resumed"], "times that a crawler came back over another link, with its jobs"),
        (None, None),
    )
    for number, text in rows:
        if text != "":
            table.add_row("" if number is None else f"{number:,}", text or "")
    screen.print()
    screen.print(table)
    screen.print(
        f"{audited.seconds:.1f} s from the first order to the end of the last job, {result.seconds:.0f} s in all:"
        f" {audited.throughput:,.0f} jobs/s, {audited.main_throughput:,.0f} jobs/s for the first 90 %",
        soft_wrap=True,
    )
    _print_verdict(screen, result)
    screen.print(f"Logs: {result.logs}", soft_wrap=True)


def _crawlers(count: int) -> str:
    return counted(count, "crawler")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _print_verdict(screen: Console, result: Result) -> None:
    if result.is_good:
        screen.print(Text("The audit found no fault: no job was lost or done twice.", style="green"))
        return
    if not result.in_time:
        screen.print(Text("The jobs did not end in time.", style="red"))
    for fault in result.audited.faults:
        screen.print(Text(str(fault), style="red"), soft_wrap=True)
