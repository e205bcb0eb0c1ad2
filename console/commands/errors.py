"""`crawlyard errors`: list the errors of jobs, one by one or in groups, and resolve or retry a group."""
# ruff: noqa: PLC0415 - a command imports what it needs in its body, so that --help prints without delay

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from console.options import as_json, duration, limited

if TYPE_CHECKING:
    from persistence.error_log.groups import Order

_NONE = "No errors match."


@click.group()
def errors() -> None:
    """List, inspect and resolve the errors of jobs."""


@errors.command("list")
@click.option("--job", metavar="ID", help="Only errors of this job.")
@click.option("--since", type=duration, help="Only errors at most this old: 90s, 15min, 2h, 7d.")
@click.option("--before", metavar="ID", help="Only errors older than the one with this id: the next page.")
@limited(20)
@as_json
def list_errors(
    job: str | None, since: timedelta | None, before: str | None, limit: int, *, as_json: bool
) -> None:
    """List errors one by one, the newest first."""
    from console.output import screen
    from console.views.errors import render_errors
    from persistence.error_log.queries import read_errors
    from persistence.schema.ids import JobId

    found = read_errors(job_id=JobId(job) if job else None, since=since, before=before, limit=limit)
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo(_NONE)
    else:
        screen.console().print(render_errors(found))
        if len(found) == limit:
            click.echo(f"Older ones: --before {found[-1].id}")


@errors.command("groups")
@click.option(
    "--since", type=duration, default="1d", show_default=True,
    help="Count only errors at most this old: 90s, 15min, 2h, 7d.",
)  # fmt: skip
@click.option("--unresolved", is_flag=True, help="Only groups that have unresolved errors.")
@click.option("--sort", type=click.Choice(("count", "last_seen")), default="count", show_default=True,
              help="Sort by number of errors, or by time of the newest error.")  # fmt: skip
@limited(20)
@as_json
def list_groups(since: timedelta, sort: "Order", limit: int, *, unresolved: bool, as_json: bool) -> None:
    """List groups of similar errors with their counts."""
    from console.output import screen
    from console.views.errors import render_groups
    from persistence.error_log.groups import read_groups

    found = read_groups(since=since, unresolved=unresolved, by=sort, limit=limit)
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo(_NONE)
    else:
        screen.console().print(render_groups(found))


@errors.command("show")
@click.argument("fingerprint")
@limited(5)
@as_json
def show_group(fingerprint: str, limit: int, *, as_json: bool) -> None:
    """Show one group with its newest errors and a stack trace."""
    from console.output import screen
    from console.views.errors import render_group
    from persistence.error_log.groups import read_group

    found = read_group(fingerprint, limit=limit)
    if as_json:
        screen.print_json(found)
    else:
        screen.console().print(render_group(found))


@errors.command("retry")
@click.argument("fingerprint")
def retry_group(fingerprint: str) -> None:
    """Queue the failed jobs of a group again."""
    from console.commands.publishing import publish
    from console.output.screen import counted
    from persistence.error_log.groups import read_group

    group = read_group(fingerprint, limit=0).group
    publish("jobs.retry", error_group=group.fingerprint)
    click.echo(
        f"Published: a worker will requeue the failed jobs among the {counted(group.jobs, 'job')} "
        f"of {group.fingerprint}."
    )


@errors.command("resolve")
@click.argument("fingerprint")
@click.argument("text")
def resolve_group(fingerprint: str, text: str) -> None:
    """
    Mark the errors of a group as resolved, with TEXT as the resolution.

    This applies to the errors that are unresolved now, not to errors of the same group that are
    logged later.
    """
    from console.commands.publishing import publish
    from console.output.screen import counted
    from persistence.error_log.groups import read_group

    # Reading the group first means that a mistyped fingerprint is refused.
    group = read_group(fingerprint, limit=0).group
    publish("failures.resolve", error_group=group.fingerprint, resolution=text)
    click.echo(
        f"Published: a worker will resolve {counted(group.unresolved, 'error')} of {group.fingerprint}."
    )
