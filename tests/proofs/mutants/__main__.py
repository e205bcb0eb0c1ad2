"""
`python -m proofs.mutants`: try the mutants, and report a verdict on each.

Exits with 1 if a mutant survives, or cannot be tried.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import click

from proofs.mutants.guards import GUARDS, ROOT, Mutant, chosen, load
from proofs.mutants.project import DoesNotApplyError
from proofs.mutants.servers import serving
from proofs.mutants.session import warm_up
from proofs.mutants.trial import LIMIT_S, Outcome, Trials, Verdict, without_a_mutant

_SEEN = (Verdict.KILLED, Verdict.BY_TIME)
"""The verdicts on a mutant whose guard a test sees gone."""


@click.command()
@click.option("--list", "listed", is_flag=True, help="Only list the guards.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Try the guards whose names contain this; repeatable."
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the outcomes to this file.")
@click.option("-n", "--side-by-side", type=click.IntRange(1), default=2, help="Concurrent trials [2].")
@click.option(
    "--limit",
    type=click.FloatRange(0),
    default=LIMIT_S,
    help=f"Seconds for a trial, and a fifth for each test [{LIMIT_S:.0f}].",
)
@click.option("--servers/--no-servers", default=True, help="Whether the tests need a database and a broker.")
@click.option("--root", type=click.Path(path_type=Path), default=ROOT, help="The project.")
@click.option("--guards", type=click.Path(path_type=Path), default=GUARDS, help="The folder of the guards.")
def main(
    *,
    listed: bool,
    only: tuple[str, ...],
    file: Path | None,
    side_by_side: int,
    limit: float,
    servers: bool,
    root: Path,
    guards: Path,
) -> None:
    """Remove one guard at a time: a test must fail. Exits with 1 if none does, or if a guard does not apply."""
    mutants = chosen(load(guards), only)
    if not mutants:
        raise click.UsageError(f"no guard has {' or '.join(only)} in its name")
    if listed:
        for mutant in mutants:
            click.echo(f"{mutant.name:<45} {mutant.why}")
        return
    try:
        with _trials(root.resolve(), side_by_side, limit, servers=servers) as trials:
            outcomes = _tried(trials, mutants)
    except DoesNotApplyError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    if file:
        file.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2), encoding="utf-8")
    sys.exit(0 if all(outcome.verdict in _SEEN for outcome in outcomes) else 1)


@contextmanager
def _trials(root: Path, places: int, limit: float, *, servers: bool) -> Iterator[Trials]:
    with TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        if not servers:
            yield Trials(root, Path(folder), [{}] * places, limit)
            return
        warm_up()
        with serving(root, places) as environments:
            yield Trials(root, Path(folder), environments, limit)


def _tried(trials: Trials, mutants: Sequence[Mutant]) -> list[Outcome]:
    """Try all mutants, and report each outcome."""
    started = monotonic()
    click.echo(f"{len(mutants)} guards. Running the named tests without a mutant first ...")
    outcomes = [
        o
        for o in trials.of(without_a_mutant(trials.project, mutants, len(trials.places)))
        if o.verdict is not Verdict.SURVIVED
    ]
    for outcome in outcomes:
        click.echo(f"A test fails without a mutant: {outcome.detail}")
    if outcomes:
        return [replace(outcome, verdict=Verdict.ERROR) for outcome in outcomes]
    click.echo(f"Every test passes without a mutant ({monotonic() - started:.0f} s).")
    for outcome in trials.of(mutants):
        outcomes.append(outcome)
        _report(outcome, f"{len(outcomes):>3}/{len(mutants)}")
    _sum_up(outcomes, monotonic() - started)
    return outcomes


def _report(outcome: Outcome, place: str) -> None:
    click.echo(f"{place}  {outcome.verdict:<14}  {outcome.seconds:>6.1f} s  {outcome.name}: {outcome.why}")
    click.echo(f"{'':35}{outcome.detail or 'no test failed'}")


def _sum_up(outcomes: Sequence[Outcome], seconds: float) -> None:
    count = {verdict: sum(outcome.verdict is verdict for outcome in outcomes) for verdict in Verdict}
    click.echo(", ".join(f"{number} {verdict}" for verdict, number in count.items()) + f" in {seconds:.0f} s")
    for outcome in outcomes:
        if outcome.verdict not in _SEEN:
            click.echo(f"{outcome.verdict}: {outcome.name} ({outcome.why}) {outcome.detail}".rstrip())


if __name__ == "__main__":
    main(prog_name="python -m proofs.mutants")
