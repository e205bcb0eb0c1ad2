"""`crawlyard progress`: shows how far jobs are, one by one, or in total for a job and all that it spawned."""

from collections.abc import Sequence
from datetime import timedelta

import click
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.output.screen import counted, duration, plain
from persistence.reports.job_progress import (
    JobProgress,
    TreeProgress,
    read_account_progress,
    read_jobs_progress,
    read_subtree_progress,
)
from persistence.schema.states import JOB_CRAWLABLE
from persistence.settings import settings

_BAR_WIDTH = 20
_ULID_WIDTH = 26
_LONGEST_S = 1e9
"""A bound on the seconds in `job.progress`, where the web app may write anything."""


def show_progress(
    *, jobs: Sequence[str], account: str | None, subtree: str | None, after: str, limit: int, as_json: bool
) -> int:
    """Print the progress of the selected jobs, and return the exit code: 1 if a job is unknown."""
    settings()
    if sum((bool(jobs), account is not None, subtree is not None)) != 1:
        raise click.UsageError("Give exactly one of --job, --account and --subtree.")
    if subtree is not None:
        return _show_tree(subtree, as_json=as_json)
    found = (
        read_account_progress(account, after=after, limit=limit)
        if account is not None
        else read_jobs_progress(jobs)
    )
    missing = set(jobs) - {job.id for job in found}
    if as_json:
        screen.print_json(found)
    elif found:
        screen.console().print(_jobs(found))
    for id_ in sorted(missing):
        click.echo(f"There is no job {plain(id_)}.", err=True)
    return FAILED_CHECK if missing else 0


def _show_tree(root: str, *, as_json: bool) -> int:
    tree = read_subtree_progress(root)
    if tree is None:
        click.echo(f"There is no job {plain(root)}.", err=True)
        return FAILED_CHECK
    if as_json:
        screen.print_json(tree)
    else:
        screen.console().print(_tree(tree))
    return 0


def _jobs(jobs: Sequence[JobProgress]) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    # The last column gets the width that the others leave: a truncated id would be useless.
    table.add_column("job", no_wrap=True, min_width=_ULID_WIDTH)
    table.add_column("status", no_wrap=True, min_width=_width("status", *(job.status for job in jobs)))
    table.add_column("done", justify="right", no_wrap=True, min_width=4)
    table.add_column(
        "left", justify="right", no_wrap=True, min_width=_width("left", *(_remaining(job) for job in jobs))
    )
    table.add_column("what", overflow="ellipsis", no_wrap=True)
    for job in jobs:
        what = f"{job.command} {job.full_path or ''}".strip()
        table.add_row(
            Text(plain(job.id)), job.status, f"{job.completion:.0%}", _remaining(job), Text(plain(what))
        )
    return table


def _width(*texts: str) -> int:
    return max(map(len, texts))


def _remaining(job: JobProgress) -> str:
    seconds = job.progress.get("secondsRemaining") if isinstance(job.progress, dict) else None
    if job.status not in JOB_CRAWLABLE or not isinstance(seconds, int | float):
        return ""
    return duration(timedelta(seconds=min(max(seconds, 0), _LONGEST_S)))


def _tree(tree: TreeProgress) -> RenderableType:
    states = Table.grid(padding=(0, 2))
    states.add_column(justify="right")
    for status, count in tree.by_status.items():
        states.add_row(f"{count:,}", plain(status))
    if tree.deferred:
        states.add_row(f"{tree.deferred:,}", "deferred: the account has reached its cap")
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=tree.completion, width=_BAR_WIDTH)
    line.add_row(bar, f"{tree.completion:.1%} of {counted(tree.jobs + tree.deferred, 'job')}")
    return Group(line, states, Text(f"{tree.items:,} items counted"))
