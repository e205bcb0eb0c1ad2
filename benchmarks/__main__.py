"""`make bench`: measure all lines, or some, and print one table."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks.harness.bed import servers
from benchmarks.limits import bloat, fairness, latency, mass_death, memory, pinned, scale
from benchmarks.report import as_json, machine, table
from benchmarks.throughput import (
    assignment,
    enqueue,
    heartbeats,
    life,
    noop,
    one_at_a_time,
    progress,
    same_work,
    submit,
)

if TYPE_CHECKING:
    from benchmarks.harness.figures import Figure
    from console.embedded.servers import Services

LINES = {
    "life": life.measure,
    "one_at_a_time": one_at_a_time.measure,
    "same_work": same_work.measure,
    "noop": noop.measure,
    "assignment": assignment.measure,
    "fairness": fairness.measure,
    "latency": latency.measure,
    "heartbeats": heartbeats.measure,
    "progress": progress.measure,
    "submit": submit.measure,
    "enqueue": enqueue.measure,
    "memory": memory.measure,
}
"""By name."""

BY_NAME_ONLY = {
    "life_among_many": (life.measure_among_many, 15),
    "pinned": (pinned.measure, 45),
    "bloat": (bloat.measure, 45),
    "mass_death": (mass_death.measure, 5),
    "scale": (scale.measure, 10),
}
"""Lines that take long, each with the minutes that it may take."""

_WIDTH = 140
"""Columns of the table in a file: none of its lines is broken."""


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([*LINES, *BY_NAME_ONLY]),
    help="Measure this line alone; repeatable.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file too."
)
@click.option("--markdown", is_flag=True, help="Print the table as docs/performance.md has it.")
@click.option("--list", "is_list", is_flag=True, help="Say which lines there are, and end.")
def main(only: tuple[str, ...], json_file: Path | None, *, markdown: bool, is_list: bool) -> None:
    """Measure, on servers of its own with fsync on; nothing is left behind."""
    if is_list:
        click.echo("\n".join(LINES))
        click.echo(
            "\n".join(f"{name} (only by its name, up to {m} min)" for name, (_, m) in BY_NAME_ONLY.items())
        )
        return
    screen = Console(width=None if sys.stdout.isatty() else _WIDTH)
    figures: list[Figure] = []
    with servers() as services:
        facts = machine(services)
        screen.print(f"{facts['cores']} cores, {facts['memory_gib']} GiB, PostgreSQL {facts['postgres']}")
        try:
            for name in only or LINES:
                figures += _measured(name, services, screen)
        finally:  # what has been measured is told, whatever ends the run
            if json_file:
                json_file.write_text(json.dumps(as_json(figures, services), indent=2) + "\n")
            screen.print(table(figures, markdown=markdown))


def _measured(name: str, services: "Services", screen: Console) -> "list[Figure]":
    measure, bound = BY_NAME_ONLY.get(name) or (LINES[name], None)
    told = f"{name} (up to {bound} minutes)" if bound else name
    begun = time.monotonic()
    with screen.status(f"{told} ..."):
        figures = list(measure(services))
    screen.print(f"{name}: {time.monotonic() - begun:.0f} s")
    return figures


if __name__ == "__main__":
    main()
