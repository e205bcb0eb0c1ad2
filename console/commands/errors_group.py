"""`crawlyard errors …`: what can be asked of the errors on record."""
# ruff: noqa: PLC0415 - every command imports what it needs itself, so that --help is there at once

from datetime import timedelta

import click

from console.options import as_json, duration, limited


@click.group()
def errors() -> None:
    """Look through the errors of jobs, and resolve them."""


@errors.command("list")
@click.option("--job", metavar="ID", help="Of this job alone.")
@click.option("--since", type=duration, help="Not older than this: 90s, 15min, 2h, 7d.")
@click.option("--before", metavar="ID", help="The page behind the error of this id.")
@limited(20)
@as_json
def list_errors(
    job: str | None, since: timedelta | None, before: str | None, limit: int, *, as_json: bool
) -> None:
    """List errors one by one, the newest first."""
    from console.commands.errors import show_errors

    show_errors(job=job, since=since, before=before, limit=limit, as_json=as_json)


@errors.command("groups")
@click.option(
    "--since", type=duration, default="1d", show_default=True, help="Count those not older than this."
)
@click.option("--unresolved", is_flag=True, help="Only groups with errors that are not resolved.")
@click.option("--sort", type=click.Choice(("count", "last_seen")), default="count", show_default=True,
              help="What comes first.")  # fmt: skip
@limited(20)
@as_json
def list_groups(since: timedelta, sort: str, limit: int, *, unresolved: bool, as_json: bool) -> None:
    """List errors that are alike as one, with how many there are."""
    from console.commands.errors import show_groups

    show_groups(since=since, unresolved=unresolved, sort=sort, limit=limit, as_json=as_json)


@errors.command("show")
@click.argument("fingerprint")
@limited(5)
@as_json
def show_group(fingerprint: str, limit: int, *, as_json: bool) -> None:
    """Show one group, its newest errors, and a stack trace."""
    from console.commands.errors import show_one_group

    show_one_group(fingerprint, limit=limit, as_json=as_json)


@errors.command("retry")
@click.argument("fingerprint")
def retry_group(fingerprint: str) -> None:
    """Queue the failed jobs of one group again."""
    from console.commands.errors import retry

    retry(fingerprint)


@errors.command("resolve")
@click.argument("fingerprint")
@click.argument("text")
def resolve_group(fingerprint: str, text: str) -> None:
    """
    Say with TEXT what became of a group.

    All its errors that are not resolved yet are so with this text; errors that come later are not.
    """
    from console.commands.errors import resolve

    resolve(fingerprint, text)
