"""`crawlyard errors`: errors one by one, in groups, and what became of them."""

from datetime import timedelta
from typing import cast

import click

from console.commands.publishing import publish
from console.output import screen
from console.output.screen import counted
from console.views.errors import render_errors, render_group, render_groups
from persistence.error_log.groups import Order, read_group, read_groups
from persistence.error_log.queries import read_errors
from persistence.schema.ids import JobId


def show_errors(
    *, job: str | None, since: timedelta | None, before: str | None, limit: int, as_json: bool
) -> None:
    """Print errors, the newest first."""
    found = read_errors(job_id=JobId(job) if job else None, since=since, before=before, limit=limit)
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo("There are no such errors.")
    else:
        screen.console().print(render_errors(found))
        if len(found) == limit:
            click.echo(f"Older ones: --before {found[-1].id}")


def show_groups(*, since: timedelta, unresolved: bool, sort: str, limit: int, as_json: bool) -> None:
    """Print groups, the largest or the youngest first."""
    found = read_groups(since=since, unresolved=unresolved, by=cast("Order", sort), limit=limit)
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo("There are no such errors.")
    else:
        screen.console().print(render_groups(found))


def show_one_group(fingerprint: str, *, limit: int, as_json: bool) -> None:
    """Print a group with its newest errors."""
    found = read_group(fingerprint, limit=limit)
    if as_json:
        screen.print_json(found)
    else:
        screen.console().print(render_group(found))


def resolve(fingerprint: str, text: str) -> None:
    """Ring failures.resolve for a group that there is; a typing error shall not pass for a resolution."""
    group = read_group(fingerprint, limit=0).group
    publish("failures.resolve", error_group=group.fingerprint, resolution=text)
    click.echo(f"Rung: a worker resolves {counted(group.unresolved, 'error')} of {group.fingerprint}.")


def retry(fingerprint: str) -> None:
    """Ring jobs.retry for a group that there is."""
    group = read_group(fingerprint, limit=0).group
    publish("jobs.retry", error_group=group.fingerprint)
    click.echo(
        f"Rung: a worker queues the failed ones of {counted(group.jobs, 'job')} of {group.fingerprint} again."
    )
