"""`crawlyard migrate` and `crawlyard adopt`: the schema, and what an older database brings with it."""

import sys

import click

from console.output import screen
from console.output.screen import counted
from persistence.maintenance.adoption import UnadoptedJobs, adopt, read_unadopted_jobs
from persistence.migrations.run import migrate
from persistence.settings import settings

_TAKEN_UP = ("queued", "running")


def show_migration(*, as_json: bool) -> None:
    """Migrate, and say from where to where, and what is left alone."""
    settings()
    migrated = migrate()
    found = read_unadopted_jobs()
    if as_json:
        screen.print_json({"from": migrated.before, "to": migrated.after, "left_alone": found})
        return
    click.echo(_result_text(migrated.before, migrated.after))
    if found.adopted_from is not None:
        click.echo(_description(found))
        click.echo("They are left alone until `crawlyard adopt`.")


def show_adoption(*, yes: bool, as_json: bool) -> None:
    """Say what would be released, and release it with *yes* or where somebody at a terminal says so."""
    settings()
    found = read_unadopted_jobs()
    if not as_json:
        click.echo(_description(found))
    go = found.adopted_from is not None and (yes or (not as_json and _agreed()))
    if go:
        found = adopt()
    if as_json:
        screen.print_json({"adopted": go, "left_alone": found})
    elif go:
        click.echo("Released: the next round of reconcile takes them up.")
    elif found.adopted_from is not None:
        click.echo("Nothing was changed; --yes releases them.")


def _result_text(before: str | None, after: str) -> str:
    if before == after:
        return f"The database is up to date, at revision {after}."
    return f"The database was migrated from {before or 'nothing'} to revision {after}."


def _description(found: UnadoptedJobs) -> str:
    if found.adopted_from is None:
        return "There is nothing to adopt: all jobs are ours."
    taken_up = sum(found.jobs.get(status, 0) for status in _TAKEN_UP)
    counts = [f"  {status:<28}{count:>12,}" for status, count in found.jobs.items()]
    return "\n".join(
        [
            f"Jobs created up to {found.adopted_from:%Y-%m-%d %H:%M:%S %Z}:",
            *(counts or ["  none"]),
            f"Still to be crawled: {counted(taken_up, 'job')}.",
            f"Held in the queue of an older component: {counted(found.held_entries, 'entry', 'entries')}.",
        ]
    )


def _agreed() -> bool:
    return sys.stdin.isatty() and click.confirm("Release them?")
