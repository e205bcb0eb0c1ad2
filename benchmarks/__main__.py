"""`make bench`: measures all lines, or some of them, and prints one table."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks.gateway import line as gateway
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
"""The lines that are measured by default, by name."""

BY_NAME_ONLY = {
    "life_among_many": (life.measure_among_many, 15),
    "pinned": (pinned.measure, 45),
    "bloat": (bloat.measure, 45),
    "mass_death": (mass_death.measure, 5),
    "scale": (scale.measure, 10),
    "gateway": (gateway.measure, 10),
    "gateway_10000": (gateway.measure_10_000, 20),
}
"""Lines that take long, each with the maximum number of minutes. They are measured only if they are named."""

_WIDTH = 140
"""Width of the table if the output is no terminal: wide enough that no row is wrapped."""


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([*LINES, *BY_NAME_ONLY]),
    help="Measure only this line; may be repeated.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file, too."
)
@click.option("--markdown", is_flag=True, help="Print the table as Markdown, as in docs/performance.md.")
@click.option("--list", "is_list", is_flag=True, help="List the lines, and measure nothing.")
def main(only: tuple[str, ...], json_file: Path | None, *, markdown: bool, is_list: bool) -> None:
    """Measure Crawlyard and its alternatives on temporary servers with fsync on."""
    if is_list:
        click.echo("\n".join(LINES))
        click.echo(
            "\n".join(f"{name} (only by name, up to {m} min)" for name, (_, m) in BY_NAME_ONLY.items())
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
        finally:  # print what was measured, even if an error ends the run
            if json_file:
                json_file.write_text(json.dumps(as_json(figures, services), indent=2) + "\n")
            screen.print(table(figures, markdown=markdown))


def _measured(name: str, services: "Services", screen: Console) -> "list[Figure]":
    measure, bound = BY_NAME_ONLY.get(name) or (LINES[name], None)
    title = f"{name} (up to {bound} minutes)" if bound else name
    begun = time.monotonic()
    with screen.status(f"{title} ..."):
        figures = list(measure(services))
    screen.print(f"{name}: {time.monotonic() - begun:.0f} s")
    return figures


if __name__ == "__main__":
    main()
