"""`crawlyard accounts`: list to which GitLab the token of each account may go, or bind accounts to one."""
# ruff: noqa: PLC0415 - a command imports what it needs in its body, so that --help prints without delay

from typing import TYPE_CHECKING

import click

from console.options import as_json, limited
from console.output.exit_codes import FAILED_CHECK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistence.reports.origins import BoundAccount
    from persistence.schema.ids import AccountId


@click.group()
def accounts() -> None:
    """List to which GitLab the tokens of accounts may go, or change it."""


@accounts.command("list")
@click.option("--origin", metavar="URL", help="Only accounts that are bound to this GitLab.")
@click.option("--unbound", is_flag=True, help="Only accounts that are bound to none.")
@click.option("--after", default="", metavar="ID", help="Continue after this account.")
@limited(1000)
@as_json
def list_accounts(origin: str | None, after: str, limit: int, *, unbound: bool, as_json: bool) -> None:
    """List accounts that have jobs, each with its GitLab and the number of its jobs that are held."""
    from console.output import screen
    from persistence.reports.origins import bound_accounts

    named = None if origin is None else _origin(origin)
    found = bound_accounts(origin=named, unbound=unbound, after=after, limit=limit)
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo("No accounts match.")
    else:
        screen.console().print(_render(found))


@accounts.command(no_args_is_help=True)
@click.argument("origin", metavar="URL")
@click.option("--account", "ids", multiple=True, metavar="ID", help="This account; may be repeated.")
@click.option("--from", "former", metavar="URL", help="All accounts that are bound to this GitLab now.")
@as_json
def bind(origin: str, ids: tuple[str, ...], former: str | None, *, as_json: bool) -> int:
    """
    Bind accounts to the GitLab at URL: their tokens go there, and nowhere else.

    Attempts at another GitLab end, and jobs that were held for this one are queued. The URLs of jobs are
    the web app's: it changes them when a GitLab has moved.
    """
    from console.commands.publishing import publish
    from console.output import screen
    from console.output.screen import counted, plain
    from persistence.settings import settings
    from persistence.unit_of_work import unit_of_work
    from tasks.origins.rebinding import rebind

    if bool(ids) == (former is not None):
        raise click.UsageError("give either --account or --from")
    settings()
    wanted = _origin(origin)
    bound: list[str] = []
    for chunk in _chunks(ids, None if former is None else _origin(former)):
        with unit_of_work(lambda _task, _payload: None) as uow:
            bound += sorted(rebind(uow, chunk, wanted))
            uow.commit()
    with unit_of_work(lambda _task, _payload: None) as uow:
        uow.round_lock.wait()
    if bound:
        publish("upkeep.reconcile", more=True)
    missing = sorted(set(ids) - set(bound))
    if as_json:
        screen.print_json({"origin": wanted, "accounts": bound, "missing": missing})
    else:
        click.echo(f"{counted(len(bound), 'account')} bound to {wanted}.")
        for id_ in missing:
            click.echo(f"There is no account {plain(id_)}.", err=True)
    return FAILED_CHECK if missing else 0


def _origin(url: str) -> str:
    """Return the origin of an option. Raises a usage error if it is none."""
    from persistence.origin import origin_of

    origin = origin_of(url)
    if origin is None:
        raise click.BadParameter(f"{url!r} is not the URL of a GitLab, such as https://gitlab.example.org")
    return origin


def _chunks(ids: tuple[str, ...], former: str | None) -> "Iterator[list[AccountId]]":
    """Yield the accounts of *ids*, or else those that are bound to *former*, by chunks that one unit binds."""
    from persistence.schema.ids import AccountId
    from persistence.unit_of_work import unit_of_work
    from tasks.origins.rebinding import CHUNK_ACCOUNTS

    for start in range(0, len(ids), CHUNK_ACCOUNTS):
        yield [AccountId(id_) for id_ in ids[start : start + CHUNK_ACCOUNTS]]
    after = ""
    while former is not None:
        with unit_of_work(lambda _task, _payload: None) as uow:
            chunk = uow.origins.bound_to(former, after, CHUNK_ACCOUNTS)
        if not chunk:
            return
        yield chunk
        after = chunk[-1]


def _render(found: "list[BoundAccount]") -> object:
    from rich.table import Table
    from rich.text import Text

    from console.output.screen import plain

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("account", "GitLab", "bound by", "held"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "held" else "left")
    for account in found:
        origin = Text(account.origin or "none", style="" if account.origin else "yellow")
        table.add_row(Text(plain(account.account_id)), origin, account.bound_by or "", str(account.held))
    return table
