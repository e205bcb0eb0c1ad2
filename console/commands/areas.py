"""`crawlyard areas`: list the changes of areas that discoveries propose, and accept or reject them."""
# ruff: noqa: PLC0415 - a command imports what it needs in its body, so that --help prints without delay

import click

from console.options import as_json, limited

_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True)


@click.group()
def areas() -> None:
    """Decide on changes of areas that other accounts use."""


@areas.group(invoke_without_command=True)
@click.option("--all", "all_", is_flag=True, help="Also changes that were made or rejected.")
@limited(100)
@as_json
@click.pass_context
def changes(ctx: click.Context, limit: int, *, all_: bool, as_json: bool) -> None:
    """List proposed changes, the newest first; or accept or reject them."""
    if ctx.invoked_subcommand:
        return
    from console.output import screen
    from console.views.area_changes import render_changes
    from persistence.reports.area_changes import read_area_changes

    found = read_area_changes(limit=limit, all_=all_)
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo("No change of an area is proposed." if not all_ else "No area has changed.")
    else:
        screen.console().print(render_changes(found))


@changes.command()
@_ids
@as_json
def accept(ids: tuple[str, ...], *, as_json: bool) -> None:
    """
    Make these changes, for every account that uses the areas; a group takes its subtree along.

    Two areas that swap their paths are accepted together.
    """
    _decide(ids, accept=True, as_json=as_json)


@changes.command()
@_ids
@as_json
def reject(ids: tuple[str, ...], *, as_json: bool) -> None:
    """Reject these changes; the same account does not propose them again."""
    _decide(ids, accept=False, as_json=as_json)


def _decide(ids: tuple[str, ...], *, accept: bool, as_json: bool) -> None:
    from console.commands.publishing import publish_and_print

    publish_and_print("areas.decide", {"change_ids": list(ids), "accept": accept}, as_json=as_json)
