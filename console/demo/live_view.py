"""Shows the demo: a live screen on a terminal, plain lines elsewhere."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from console.demo.event_watcher import DemoEvent
from console.output.screen import counted, plain
from console.simulator.counters import FleetCounts
from console.simulator.crawler import Crawler, CrawlerState
from persistence.schema.states import JobStatus

_PARTS = (
    (JobStatus.FINISHED, "green"),
    (JobStatus.FAILED, "red"),
    (JobStatus.CANCELLED, "yellow"),
    (JobStatus.RUNNING, "cyan"),
    (JobStatus.QUEUED, "bright_black"),
)
"""The parts of the bar: job.status and colour. Jobs that are not ordered yet leave it empty."""

_CRAWLER_WIDTH = 38
_FLEET_LINES = 8
_MOST_EVENTS = 200
_LINES_BESIDE_EVENTS = 9
_SUMMARY_SECONDS = 1.0


@dataclass(frozen=True)
class Moment:
    """The state of the demo at one moment."""

    jobs: Counter[str]
    """By status."""
    expected: int
    crawlers: Sequence[Crawler]
    connected: int
    counts: FleetCounts
    new_events: Sequence[DemoEvent]


class View(Protocol):
    """Shows the state of the demo."""

    def __enter__(self) -> Self:
        """Start showing."""

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop showing."""

    def show(self, moment: Moment) -> None:
        """Show this moment."""


def view(console: Console, title: str, *, is_plain: bool) -> View:
    """Return a live screen if there is a terminal, else plain lines."""
    if is_plain or not console.is_terminal:
        return PlainLines(console, title)
    return LiveView(console, title)


class PlainLines:
    """One line per event, and one line per second with the totals."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._begun = time.monotonic()
        self._next_summary = 0.0

    def __enter__(self) -> Self:
        self._print(self._title)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        pass

    def show(self, moment: Moment) -> None:
        """Print the new events, and the totals if a second has passed."""
        for event in moment.new_events:
            self._print(event.text)
        if time.monotonic() >= self._next_summary:
            self._next_summary = time.monotonic() + _SUMMARY_SECONDS
            totals = ", ".join(f"{moment.jobs[status]} {status}" for status, _ in _PARTS)
            self._print(f"{totals}; {counted(moment.connected, 'crawler')} connected")

    def _print(self, text: str) -> None:
        self._console.print(f"{_clock(self._begun)}  {plain(text)}", markup=False, soft_wrap=True)


class LiveView:
    """The whole screen: jobs, fleet, events."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._begun = time.monotonic()
        self._moment: Moment | None = None
        self._events: deque[tuple[str, DemoEvent]] = deque(maxlen=_MOST_EVENTS)
        self._live = Live(self, console=console, screen=True, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, moment: Moment) -> None:
        """Show this moment at the next refresh."""
        self._moment = moment
        self._events.extend((_clock(self._begun), event) for event in moment.new_events)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(*self._lines(options.max_width, options.height or options.max_height))

    def _lines(self, width: int, height: int) -> list[RenderableType]:
        head = _both_ends(Text(self._title, style="bold"), Text(_clock(self._begun), style="bold"))
        moment = self._moment
        if moment is None:
            return [head]
        fleet = _fleet(moment, width)
        events = max(height - _LINES_BESIDE_EVENTS - len(fleet.rows), 0)
        return [
            head,
            Text(),
            _JobsBar(moment),
            _legend(moment),
            Text(),
            _both_ends(Text("Fleet", style="bold"), Text(_fleet_sums(moment), style="bright_black")),
            fleet,
            Text(),
            Text("Events", style="bold"),
            *(_event_line(at, event) for at, event in list(self._events)[-events:] if events),
        ]


@dataclass(frozen=True)
class _JobsBar:
    """All jobs as one bar, with a colour for each status."""

    moment: Moment

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        width, total = options.max_width - 2, max(self.moment.expected, self.moment.jobs.total(), 1)
        yield Segment(" ")
        done = reached = 0
        for status, colour in _PARTS:
            done += self.moment.jobs[status]
            until = done * width // total
            yield Segment("━" * (until - reached), Style(color=colour))
            reached = until
        yield Segment("─" * (width - reached), Style(color="bright_black", dim=True))
        yield Segment.line()


def _both_ends(left: Text, right: Text) -> Table:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    line.add_row(Text(" ") + left, right)
    return line


def _legend(moment: Moment) -> Text:
    legend = Text(" ", no_wrap=True, overflow="ellipsis")
    for status, colour in _PARTS:
        legend.append("■ ", style=colour)
        legend.append(f"{moment.jobs[status]} {status}   ")
    not_ordered = moment.expected - moment.jobs.total()
    if not_ordered > 0:
        legend.append(f"{not_ordered} not ordered yet", style="bright_black")
    return legend


def _fleet_sums(moment: Moment) -> str:
    counts = moment.counts
    summary = f"{counts.said:,} frames sent, {counts.repeated} repeated"
    return f"{summary}, {counts.stale_said} stale" if counts.stale_said else summary


def _fleet(moment: Moment, width: int) -> Table:
    """As many crawlers as fit; if not all do, those that are frozen, dead or disconnected come first."""
    columns = max(width // _CRAWLER_WIDTH, 1)
    room = columns * _FLEET_LINES
    crawlers = list(moment.crawlers)
    if len(crawlers) > room:
        shown = sorted(crawlers, key=lambda crawler: crawler.state is CrawlerState.AT_WORK)[: room - 1]
        crawlers = [crawler for crawler in crawlers if crawler in shown]
    cells = [_crawler(crawler) for crawler in crawlers]
    if len(cells) < len(moment.crawlers):
        cells.append(Text(f"and {len(moment.crawlers) - len(cells)} more", style="bright_black"))
    lines = -(-len(cells) // columns)
    grid = Table.grid(padding=(0, 1))
    for _ in range(columns):
        grid.add_column(width=_CRAWLER_WIDTH - 1, no_wrap=True, overflow="ellipsis")
    for line in range(lines):
        grid.add_row(*cells[line::lines])
    return grid


def _crawler(crawler: Crawler) -> Text:
    cell = Text(f" {crawler.name}  ")
    busy = min(len(crawler.fences()), crawler.capacity)
    match crawler.state:
        case CrawlerState.AT_WORK if crawler.is_connected:
            cell.append("●" * busy, style="cyan").append(
                "○" * (crawler.capacity - busy), style="bright_black"
            )
            cell.append(f"  {crawler.completed} done", style="bright_black")
        case CrawlerState.AT_WORK:
            cell.append("connecting", style="bright_black")
        case CrawlerState.FROZEN:
            cell.append("●" * busy, style="blue").append("  frozen", style="blue")
        case state:
            cell.append(state.value, style="red" if state is CrawlerState.DEAD else "yellow")
    return cell


def _event_line(at: str, event: DemoEvent) -> Text:
    line = Text(f" {at} ", style="bright_black", no_wrap=True, overflow="ellipsis")
    line.append(" ▪ ", style=event.colour)
    return line.append(plain(event.text), style="default")


def _clock(begun: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
    return f"{minutes:02}:{seconds:02}"
