"""How the statistics look on a terminal; 80 columns are enough."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.output.panels import Cell, Row, cell, count_rows, panel
from console.output.screen import duration, plain
from console.output.urls import shown
from console.views.status import connection_rows, kept_rows
from persistence.reports.statistics import AccountStatistics, StatisticsReport
from persistence.reports.stored_counts import BusyAccount, CountedStatistics, QueueDepth, Throughput
from persistence.schema.states import ENTRY_SETTLED, JobStatus
from persistence.settings import settings

_MISSED = 3
"""Counts older than this many intervals are reported as outdated."""

_STATUSES = (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED)
"""The other statuses share a column."""

_STATES = {
    "ready": "ready",
    "backed_off": "backed off",
    "held": "parked",
    "processing": "processing",
    "completed": "completed",
    "failed": "failed",
    "deferred": "deferred",
}
"""The states of the report, in the order of the rows, with their names on the screen."""

_UNSETTLED = [state for state in _STATES if state not in ENTRY_SETTLED]

_NEVER = (
    "Nothing has been counted yet. Beat publishes the counting task every {interval} and a worker runs it: "
    "run `crawlyard health` to see which of them is missing."
)

_STALE = "These counts are outdated. Run `crawlyard health` to see whether beat or the workers are missing."


def render(statistics: StatisticsReport) -> RenderableType:
    """All statistics, the stored counts first; if there are none, what to do about it."""
    heading = Text.assemble((shown(settings().database_url), "bold"), (_time(statistics), "dim"))
    return Group(
        heading, *_counted(statistics.counts), Text("\nNow", style="bold"), _columns(_now(statistics))
    )


def render_account(account: AccountStatistics) -> RenderableType:
    """The statistics of one account."""
    heading = Text.assemble((f"Account {plain(account.account_id)}", "bold"), (_time(account), "dim"))
    panels = [
        panel("Queue", _depth_rows(account.queue)),
        panel("Attempts", [*account.assignments.items(), *_account_rows(account)]),
        panel("Failures, last hour", count_rows(account.failures_last_hour, "yellow")),
    ]
    return Group(heading, _columns(panels), _jobs_table(account.jobs))


def _time(statistics: StatisticsReport | AccountStatistics) -> str:
    return f"  {statistics.taken_at:%Y-%m-%d %H:%M:%S %Z}"


def _columns(panels: Sequence[RenderableType]) -> Columns:
    return Columns(panels, padding=(0, 1))


def _counted(counts: CountedStatistics | None) -> list[RenderableType]:
    interval = settings().statistics_interval
    if counts is None:
        return [Text(_NEVER.format(interval=duration(interval)), style="yellow")]
    is_stale = counts.age > _MISSED * interval
    age = Text(
        f"\nCounted {duration(counts.age)} ago, in one snapshot", style="bold red" if is_stale else "bold"
    )
    stale = [Text(_STALE, style="red")] if is_stale else []
    areas = {"areas": sum(counts.areas.values())} | {
        f"  {kind}": n for kind, n in sorted(counts.areas.items())
    }
    panels = [
        panel("Queue", _depth_rows(counts.queue)),
        panel(f"Last {duration(_window(counts.throughput))}", _throughput_rows(counts.throughput)),
        panel("Areas", [*_plain(areas), ("authorizations", counts.authorizations)]),
    ]
    tables = [_jobs_table(counts.jobs), *_accounts_tables(counts)]
    return [age, *stale, _columns(panels), *tables]


def _plain(counts: Mapping[str, int]) -> list[Row]:
    return [(plain(name), count) for name, count in counts.items()]


def _now(statistics: StatisticsReport) -> list[RenderableType]:
    used = sum(statistics.assignments.values())
    blocked = (
        [panel("Blocked accounts", count_rows(statistics.held_accounts, "yellow"))]
        if statistics.held_accounts
        else []
    )
    beyond = [
        panel(f"{what} beyond bounds", count_rows(counts, "red"))
        for what, counts in (
            ("Deleted", statistics.beyond_bounds),
            ("Refused", statistics.refused_beyond_bounds),
        )
        if counts
    ]
    return [
        panel("Connections", connection_rows(statistics.connections, used)),
        panel("Attempts", _plain(statistics.assignments)),
        panel("Failures, last hour", count_rows(statistics.failures_last_hour, "yellow")),
        panel("Rejected, last hour", count_rows(statistics.rejected_last_hour, "yellow")),
        panel("Rejected, kept", kept_rows(statistics.rejected_kept)),
        *beyond,
        *blocked,
    ]


def _depth_rows(queue: Mapping[str, QueueDepth]) -> list[Row]:
    """The number of entries in each state and, dimmed, the age of the oldest."""
    rows: list[Row] = []
    for state, name in _STATES.items():
        depth = queue.get(state)
        if depth is None or depth.oldest is None:
            rows.append((name, 0))
            continue
        figures = Text.assemble((f"{duration(depth.oldest)}  ", "dim"), f"{depth.entries:,}")
        rows.append((name, figures))
    return rows


def _window(throughput: Throughput) -> timedelta:
    return timedelta(seconds=throughput.seconds)


def _throughput_rows(throughput: Throughput) -> list[Row]:
    figures = {
        "jobs finished": throughput.jobs_finished,
        "jobs failed": throughput.jobs_failed,
        "jobs cancelled": throughput.jobs_cancelled,
        "attempts started": throughput.attempts_begun,
        "attempts ended": throughput.attempts_ended,
    }
    per_second = throughput.jobs_finished / throughput.seconds
    return [*figures.items(), ("finished per second", Text(f"{per_second:,.1f}", style="dim"))]


def _jobs_table(jobs: Mapping[str, Mapping[str, int]]) -> Table:
    """One row per command, the most frequent first."""
    table = _table("Jobs", "command", [*_STATUSES, "others"])
    for command, by_status in sorted(jobs.items(), key=lambda row: (-sum(row[1].values()), row[0])):
        _add(table, command, _by_status(by_status))
    if len(jobs) > 1:
        table.add_section()
        totals = zip(*(_by_status(by_status) for by_status in jobs.values()), strict=True)
        _add(table, "all", [sum(column) for column in totals])
    return table


def _by_status(jobs: Mapping[str, int]) -> list[int]:
    known = [jobs.get(status, 0) for status in _STATUSES]
    return [*known, sum(jobs.values()) - sum(known)]


def _accounts_tables(counts: CountedStatistics) -> list[Table]:
    if not counts.busiest_accounts:
        return []
    table = _table("Accounts with work", "account", [*map(_STATES.__getitem__, _UNSETTLED), "settled"])
    for account in counts.busiest_accounts:
        _add(table, account.account_id, _by_state(account))
    shown_, all_ = len(counts.busiest_accounts), counts.accounts_with_work
    table.caption = f"{shown_:,} of {all_:,} accounts with work; {counts.accounts:,} accounts in all"
    return [table]


def _by_state(account: BusyAccount) -> list[int]:
    entries = account.entries
    waiting = [entries.get(state, 0) for state in _UNSETTLED]
    return [*waiting, sum(entries.get(state, 0) for state in ENTRY_SETTLED)]


def _account_rows(account: AccountStatistics) -> list[Row]:
    last_assigned = account.last_seated_at
    rows: list[Row] = [
        ("authorizations", account.authorizations),
        ("last assigned", f"{duration(account.taken_at - last_assigned)} ago" if last_assigned else "never"),
    ]
    for state, since, reason in (
        ("blocked", account.held_at, account.held_reason),
        ("paused", account.paused_at, account.paused_reason),
    ):
        if since:
            label = f"{state}: {plain(reason)}" if reason else state
            rows.append((label, Text(duration(account.taken_at - since), style="yellow")))
    return rows


def _table(title: str, name: str, columns: Sequence[str]) -> Table:
    table = Table(
        title=f"[bold]{title}[/]", title_justify="left", caption_justify="left", border_style="dim",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1),
    )  # fmt: skip
    # The only column that may get narrower; its names are cut with an ellipsis, not wrapped.
    table.add_column(name)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _add(table: Table, name: str, figures: Sequence[Cell]) -> None:
    table.add_row(Text(plain(name), no_wrap=True, overflow="ellipsis"), *(cell(figure) for figure in figures))
