"""`crawlyard jobs`: what can be asked of many jobs at once; each command rings the task of its name."""

from collections.abc import Callable
from typing import Any, TypeAlias

import click

Body: TypeAlias = Callable[..., None]
Option: TypeAlias = Callable[[Body], Body]

_SELECTION: dict[str, Option] = {
    "job_ids": click.option("--job", "job_ids", multiple=True, metavar="ID", help="This job; may be said again."),
    "account_id": click.option("--account", "account_id", metavar="ID", help="All jobs of this account."),
    "area": click.option("--area", metavar="PATH", help="All jobs of this group or project, and below it."),
    "subtree_of": click.option("--subtree", "subtree_of", metavar="ID", help="This job, and all that it spawned."),
}  # fmt: skip

_ERROR_GROUP: dict[str, Option] = {
    "error_group": click.option("--error-group", metavar="FINGERPRINT", help="All jobs that met this error."),
}

_LAST: tuple[Option, ...] = (
    click.option("--reason", metavar="TEXT", help="Why, for those who read of it."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead."),
)


def _command(*more: Option, **choices: Option) -> Callable[[Body], click.Command]:
    """A command of the group, with a selection, *more* options, and a reason."""

    def decorate(body: Body) -> click.Command:
        for option in reversed((*_SELECTION.values(), *choices.values(), *more, *_LAST)):
            body = option(body)
        return jobs.command(no_args_is_help=True)(body)

    return decorate


@click.group()
def jobs() -> None:
    """Cancel, pause, resume, retry or prioritize jobs."""


@_command()
def cancel(**options: Any) -> None:
    """End jobs, wherever they stand."""
    _publish("jobs.cancel", **options)


@_command()
def pause(**options: Any) -> None:
    """Let jobs wait; of an account also those that come later."""
    _publish("jobs.pause", **options)


@_command()
def resume(**options: Any) -> None:
    """Let paused jobs, or a paused account, go on."""
    _publish("jobs.resume", **options)


@_command(
    click.option("--failed-after", metavar="TIME", help="Only what failed after it; ISO 8601 with its zone."),
    click.option("--failed-before", metavar="TIME", help="Only what failed before it."),
    **_ERROR_GROUP,
)
def retry(**options: Any) -> None:
    """Queue failed jobs again."""
    _publish("jobs.retry", **options)


@_command(click.option("--priority", type=int, required=True, help="Higher comes first, within an account."))
def prioritize(**options: Any) -> None:
    """Give jobs another priority."""
    _publish("jobs.prioritize", **options)


def _publish(task: str, *, as_json: bool, **options: Any) -> None:
    """Ring *task* with what was given. Raises a usage error unless exactly one selection was."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    choices = (_SELECTION | _ERROR_GROUP).keys() & options.keys()
    if len(given.keys() & choices) != 1:
        flags = [p.opts[0] for p in click.get_current_context().command.params if p.name in choices]
        raise click.UsageError(f"Give exactly one of {', '.join(flags)}.")
    from console.commands.publishing import publish_and_print  # noqa: PLC0415 - --help is there at once

    publish_and_print(task, given, as_json=as_json)
