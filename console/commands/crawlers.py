"""`crawlyard crawlers`: who may connect as a crawler."""
# ruff: noqa: PLC0415 - a command imports what it needs in its body, so that --help prints without delay

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from console.options import as_json, duration
from console.output.exit_codes import FAILED_CHECK

if TYPE_CHECKING:
    from persistence.fleet.credentials import EnrolledCrawler

_name = click.argument("name", metavar="NAME")


@click.group()
def crawlers() -> None:
    """
    List who may connect as a crawler, or change it.

    Gateways check these secrets: what is revoked is let go of within seconds.
    """


@crawlers.command(no_args_is_help=True)
@_name
@click.option(
    "--capacity",
    type=click.IntRange(1, 1000),
    help="Most jobs at once of one connection, for its gateway to bound.",
)
@as_json
def enroll(name: str, capacity: int | None, *, as_json: bool) -> int:
    """
    Let a crawler called NAME connect, and print its secret.

    The secret is shown this once; only its hash is kept. Many processes may use one, each with a crawlerId of its own.
    """
    from persistence.sanitize.crawler_secret import hash_of, new_secret
    from persistence.unit_of_work import unit_of_work

    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise click.BadParameter(f"a name has 1 to {_LONGEST_NAME} printable characters")
    secret = new_secret()
    with unit_of_work(lambda _task, _payload: None) as uow:
        id_ = uow.crawler_credentials.enroll(name, hash_of(secret), capacity)
        uow.commit()
    if id_ is None:
        return _failed(f"There is a crawler {name} already: rotate its secret, or take another name.")
    _show_secret(name, secret, as_json=as_json, id=id_)
    return 0


@crawlers.command(no_args_is_help=True)
@_name
@click.option("--keep", type=duration, default="1d", show_default=True, metavar="DURATION",
              help="How long the former secret may be used, too.")  # fmt: skip
@as_json
def rotate(name: str, keep: timedelta, *, as_json: bool) -> int:
    """Give the crawler called NAME a new secret, and print it."""
    from persistence.sanitize.crawler_secret import hash_of, new_secret
    from persistence.unit_of_work import unit_of_work

    secret = new_secret()
    with unit_of_work(lambda _task, _payload: None) as uow:
        found = uow.crawler_credentials.rotate(name, hash_of(secret), keep)
        uow.commit()
    if not found:
        return _failed(f"There is no crawler {name}, or it is revoked.")
    _show_secret(name, secret, as_json=as_json)
    return 0


@crawlers.command(no_args_is_help=True)
@_name
@as_json
def revoke(name: str, *, as_json: bool) -> int:
    """Let the crawler called NAME connect no more. This cannot be undone, and its name stays taken."""
    from console.output import screen
    from console.output.screen import plain
    from persistence.unit_of_work import unit_of_work

    with unit_of_work(lambda _task, _payload: None) as uow:
        found = uow.crawler_credentials.revoke(name)
        uow.commit()
    if not found:
        return _failed(f"There is no crawler {name}, or it is revoked already.")
    if as_json:
        screen.print_json({"name": name, "revoked": True})
    else:
        click.echo(f"{plain(name)} is revoked.")
    return 0


@crawlers.command("list")
@as_json
def list_crawlers(*, as_json: bool) -> None:
    """List the crawlers that may connect, and those that are revoked."""
    from console.output import screen
    from persistence.unit_of_work import unit_of_work

    with unit_of_work(lambda _task, _payload: None) as uow:
        found = uow.crawler_credentials.all()
    if as_json:
        screen.print_json(found)
    elif not found:
        click.echo("No crawler may connect: crawlyard crawlers enroll NAME")
    else:
        screen.console().print(_render(found))


_LONGEST_NAME = 200


def _failed(message: str) -> int:
    from console.output.screen import plain

    click.echo(plain(message), err=True)
    return FAILED_CHECK


def _show_secret(name: str, secret: str, *, as_json: bool, **more: str) -> None:
    from console.output import screen

    if as_json:
        screen.print_json({"name": name, "secret": secret, **more})
    else:
        click.echo(secret)
        click.echo("This secret is not shown again.", err=True)


def _render(found: "list[EnrolledCrawler]") -> object:
    from rich.table import Table
    from rich.text import Text

    from console.output.screen import plain

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("name", overflow="ellipsis", no_wrap=True)
    table.add_column("capacity", justify="right", no_wrap=True)
    for heading in ("enrolled", "last used", "state"):
        table.add_column(heading, no_wrap=True)
    for one in found:
        table.add_row(
            Text(plain(one.name)),
            str(one.capacity or "any"),
            f"{one.created_at:%Y-%m-%d}",
            f"{one.last_used_at:%Y-%m-%d %H:%M}" if one.last_used_at else "never",
            "revoked" if one.revoked_at else "valid",
        )
    return table
