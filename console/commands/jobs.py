"""`crawlyard jobs`: change many jobs at once. Each command publishes the task of the same name."""

from collections.abc import Callable
from typing import Any

import click

from console.options import Body, Option, as_json, with_options

_SELECTION: dict[str, Option] = {
    "job_ids": click.option("--job", "job_ids", multiple=True, metavar="ID", help="This job; may be repeated."),
    "account_id": click.option("--account", "account_id", metavar="ID", help="All jobs of this account."),
    "area": click.option("--area", metavar="PATH", help="All jobs of this group or project, and of what it contains."),
    "subtree_of": click.option("--subtree", "subtree_of", metavar="ID", help="This job and all jobs that it spawned."),
}  # fmt: skip

_ERROR_GROUP: dict[str, Option] = {
    "error_group": click.option("--error-group", metavar="FINGERPRINT", help="All jobs that had this error."),
}

_REASON = click.option("--reason", metavar="TEXT", help="The reason, which is recorded with the change.")


def _command(*more: Option, **choices: Option) -> Callable[[Body], click.Command]:
    """Add a command to the group, with a selection, *more* options and a reason."""
    options = with_options(*_SELECTION.values(), *choices.values(), *more, _REASON, as_json)

    def decorate(body: Body) -> click.Command:
        return jobs.command(no_args_is_help=True)(options(body))

    return decorate


@click.group()
def jobs() -> None:
    """Cancel, pause, resume, retry or prioritize jobs."""


@_command()
def cancel(**options: Any) -> None:
    """Cancel jobs that have not ended."""
    _publish("jobs.cancel", **options)


@_command()
def pause(**options: Any) -> None:
    """Pause jobs; with --account, also jobs of this account that come later."""
    _publish("jobs.pause", **options)


@_command()
def resume(**options: Any) -> None:
    """Resume paused jobs, or a paused account."""
    _publish("jobs.resume", **options)


@_command(
    click.option("--failed-after", metavar="TIME",
                 help="Only jobs that failed after this time (ISO 8601 with a time zone)."),
    click.option("--failed-before", metavar="TIME",
                 help="Only jobs that failed before this time (ISO 8601 with a time zone)."),
    **_ERROR_GROUP,
)  # fmt: skip
def retry(**options: Any) -> None:
    """Queue failed jobs again."""
    _publish("jobs.retry", **options)


@_command(
    click.option("--priority", type=int, required=True,
                 help="The new priority; within an account, higher is crawled first."),
)  # fmt: skip
def prioritize(**options: Any) -> None:
    """Change the priority of jobs."""
    _publish("jobs.prioritize", **options)


def _publish(task: str, *, as_json: bool, **options: Any) -> None:
    """Publish *task* with the given options. Raises a usage error unless exactly one selection is given."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    choices = (_SELECTION | _ERROR_GROUP).keys() & options.keys()
    if len(given.keys() & choices) != 1:
        flags = [p.opts[0] for p in click.get_current_context().command.params if p.name in choices]
        raise click.UsageError(f"Give exactly one of {', '.join(flags)}.")
    from console.commands.publishing import publish_and_print  # noqa: PLC0415 - it imports Celery

    publish_and_print(task, given, as_json=as_json)
