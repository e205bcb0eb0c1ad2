"""`crawlyard gitlab`: say that a GitLab has moved."""
# ruff: noqa: PLC0415 - a command imports what it needs in its body, so that --help prints without delay

from typing import TYPE_CHECKING

import click

from console.options import as_json

if TYPE_CHECKING:
    from tasks.maintenance.gitlab_names import Carried


@click.group()
def gitlab() -> None:
    """Say that a GitLab has another URL now, and list those that have."""


@gitlab.command("list")
@as_json
def list_(*, as_json: bool) -> None:
    """List the GitLabs that have moved, the last move first."""
    from console.output import screen
    from console.output.layout import moment
    from persistence.reports.origins import read_moved_gitlabs
    from persistence.settings import settings

    settings()
    found = read_moved_gitlabs()
    if as_json:
        screen.print_json(found)
        return
    for one in found:
        state = "" if one.carried_at else ", not all carried over yet: run `crawlyard gitlab moved` again"
        click.echo(
            f"{moment(one.moved_at)}  {screen.plain(one.origin)} is {screen.plain(one.moved_to)}{state}"
        )
    if not found:
        click.echo("No GitLab has moved.")


@gitlab.command(no_args_is_help=True)
@click.argument("former", metavar="OLD")
@click.argument("origin", metavar="NEW")
@as_json
def moved(former: str, origin: str, *, as_json: bool) -> None:
    """
    Say that the GitLab at OLD is at NEW now: another host, port, scheme or path, with the same groups and ids.

    URLs of jobs stay as the web app wrote them; both mean NEW from now on, and tokens of OLD go to NEW. Accounts, queue
    entries and areas are carried over in chunks. Run it again after an interruption, or to be sure.
    """
    from console.commands.publishing import publish
    from console.output import screen
    from persistence.settings import settings
    from tasks.maintenance.gitlab_names import check_move, move_gitlab

    settings()
    moved, target = check_move(former, origin)
    if not as_json:
        click.echo(f"From now on {moved} is {target}. Waiting until all workers know it …")
    carried = move_gitlab(moved, target, (lambda _: None) if as_json else _report)
    publish("upkeep.reconcile", more=True)
    publish("jobs.assign")
    if as_json:
        screen.print_json({"moved": moved, "origin": target, "carried": carried})
    else:
        click.echo(f"Done: {_text(carried)}.")


def _report(carried: "Carried") -> None:
    click.echo(f"  so far: {_text(carried)}", err=True)


def _text(carried: "Carried") -> str:
    from console.output.screen import counted

    moved = f"{counted(carried.accounts, 'account')}, {counted(carried.jobs, 'job')}, {counted(carried.areas, 'area')}"
    cancelled = f", and {counted(carried.cancelled, 'duplicate job')} cancelled" if carried.cancelled else ""
    return f"{moved} carried over{cancelled}"
