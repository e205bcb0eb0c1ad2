"""The command: `make chaos ARGS='--seed 7 --minutes 5'`, or `PYTHONPATH=tests .venv/bin/python -m proofs.chaos`."""

import os
import random
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click

from proofs.chaos import report
from proofs.chaos.faults import FAULTS, MessagesConfused
from proofs.chaos.run import run_chaos
from proofs.chaos.schedule import plan
from proofs.chaos.system.system import Load

INTERRUPTED = 130


@click.command()
@click.option("--seed", type=int, help="Determines the plan (default: random; it is printed first).")
@click.option("--minutes", default=5.0, show_default=True, type=click.FloatRange(0.1, 60), help="Of faults.")
@click.option("--every", default=2.5, show_default=True, help="Average seconds between two faults.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(sorted(FAULTS)),
    help="Only this kind of fault; may be repeated.",
)
@click.option("--jobs-per-second", default=3.0, show_default=True, help="Average orders per second.")
@click.option(
    "--settling",
    default=120.0,
    show_default=True,
    help="Seconds without an ended job after which settling is given up.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--keep", is_flag=True, help="Keep the logs even if the run passes.")
@click.option("--list", "lists", is_flag=True, help="List the kinds of faults and exit.")
def main(
    *,
    seed: int | None,
    minutes: float,
    every: float,
    only: tuple[str, ...],
    jobs_per_second: float,
    settling: float,
    json_file: Path | None,
    keep: bool,
    lists: bool,
) -> None:
    """Inject faults around a simulated fleet for some minutes, and check that no job is lost or done twice."""
    if lists:
        _list_faults()
        return
    seed = random.SystemRandom().randrange(1, 100_000) if seed is None else seed
    span, names = 60 * minutes, only or tuple(FAULTS)
    click.echo(f"seed {seed}: {minutes:g} minutes of faults")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="crawlyard-chaos-"))
    load = Load(
        seed,
        int(span * jobs_per_second),
        0.9 * span,
        MessagesConfused.share * (MessagesConfused.name in names),
    )
    planned = plan(seed, span, names, every)
    binaries = os.environ.get("CRAWLYARD_TEST_POSTGRES_BIN")
    try:
        outcome = run_chaos(
            load,
            planned,
            folder=folder,
            settling_s=settling,
            on_event=_tell,
            binaries=Path(binaries) if binaries else None,
        )
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        sys.exit(INTERRUPTED)
    except BaseException:
        click.echo(f"Logs: {folder}", err=True)
        raise
    click.echo(report.text(outcome))
    if json_file:
        report.write(json_file, outcome, {"seed": seed, "minutes": minutes, "only": only})
    if not outcome.is_good:
        click.echo(f"The run failed. Logs: {folder}")
        sys.exit(1)
    if keep:
        click.echo(f"Logs: {folder}")
    else:
        shutil.rmtree(folder)
    click.echo("The run passed: no job lost or done twice, no connection wrongly expired.")


def _tell(seconds: float, text: str) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {seconds:7.1f} s  {text}")


def _list_faults() -> None:
    for name, fault in FAULTS.items():
        first = (type(fault).__doc__ or "").strip()
        click.echo(f"{name:38} {first}")


if __name__ == "__main__":
    main()
