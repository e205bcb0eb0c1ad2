"""
The demo: a day of a small fleet in a minute, on servers of its own, with an audit at the end.

Real servers, a real worker and beat; the web app and the fleet are simulated. Some crawlers die, one
says goodbye, one freezes and comes back with stale words. It ends by itself, and well only if the
books balance.
"""

import json
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from sqlalchemy import Engine, NullPool, create_engine

from console.demo.books import DemoAudit, audit_demo
from console.demo.happenings import EventWatcher
from console.demo.live_view import Moment, View, view
from console.demo.processes import Supervisor
from console.demo.summary import Result, print_summary
from console.embedded.servers import Services, embedded_services
from console.output.screen import console
from console.simulator.fleet import Fleet, FleetOptions, incidents_of_a_day
from console.simulator.gitlab import GitLab
from console.simulator.projects import GroupTree, pick_group_tree
from console.simulator.web_app import WebApp, WebAppOptions
from persistence.exceptions import CrawlyardError
from persistence.migrations.run import migrate
from persistence.settings import PREFIX, Settings
from tasks.client import Producer

DAY_SECONDS = 40.0
"""Of the orders and the work; who was lost in it is waited for a little longer."""
LONGEST_JOB_SECONDS = 6.0
CAPACITY = 5
HEARTBEAT_SECONDS = 1.0

_ORDERS_SHARE = 0.7
_USES_BEFORE = 10
"""Of the explorer's token: so often at least it is used before it dies."""
_WORK_SHARE = 0.75
_TURN_SECONDS = 0.25
_OPENING_SECONDS = 30.0
_DEADLINE_SECONDS = 180.0
_SLOWEST_PACE = 20.0
"""Jobs a second that are waited for beyond the deadline where thousands are ordered."""
_SETTLING_SECONDS = 15.0
"""For words on their way, once all jobs have ended."""
_CRASHES = 5
INTERRUPTED = 130


_UNPREPARED: dict[str, Any] = {"prepare_threshold": None}
"""A pooler may stand between, and give the next statement to another session."""


@dataclass(frozen=True)
class DemoOptions:
    """What `crawlyard demo` was asked for; see its help."""

    jobs: int
    crawlers: int
    seed: int | None
    speed: float
    json_file: Path | None
    plain: bool


class DemoError(CrawlyardError):
    """The demo could not go on; the text says why, and where the logs are."""


def run(options: DemoOptions) -> int:
    """Play the day and print how it went; returns the exit code, 0 only if the books balance."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = console()
    logs = Path(tempfile.mkdtemp(prefix="crawlyard-demo-"))
    try:
        result = _run_demo(options, screen, logs)
    except KeyboardInterrupt:
        screen.print(f"Interrupted. Logs: {logs}", soft_wrap=True)
        return INTERRUPTED
    print_summary(screen, result)
    if options.json_file:
        options.json_file.write_text(json.dumps(result.summary(), indent=2) + "\n")
    return 0 if result.is_good else 1


def _run_demo(options: DemoOptions, screen: Console, logs: Path) -> Result:
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1, 100_000)
    title = f"Crawlyard, a day in a minute: {options.jobs} jobs, {options.crawlers} crawlers, seed {seed}"
    begun = time.monotonic()
    group_tree = pick_group_tree(random.Random(f"{seed} estate"), options.jobs // 10)  # noqa: S311 - a simulation
    with (
        GitLab(dies_at_use=len(group_tree.jobs()) // 2 + _USES_BEFORE) as gitlab,
        view(screen, title, is_plain=options.plain) as screen_view,
        _dispatcher(options, logs, gitlab) as running,
    ):
        services, processes = running
        # One each, since they are not to be shared by threads.
        with (
            closing(Producer(services.broker_url)) as publisher,
            closing(Producer(services.broker_url)) as other,
        ):
            fleet = Fleet(_fleet_options(options, seed, group_tree, gitlab), publisher, services.database_url)
            web_app = WebApp(
                _web_app_options(options, seed, group_tree, gitlab), other, services.database_url
            )
            with fleet:
                demo_run = _DemoRun(options, fleet, web_app, processes, screen_view)
                audited, in_time = demo_run.run(services)
    counts = {name: value for name, value in vars(fleet.counts).items() if isinstance(value, int)}
    requested = {"jobs": options.jobs, "crawlers": options.crawlers, "speed": options.speed, "seed": seed}
    return Result(requested, time.monotonic() - begun, audited, counts, processes.restarts, logs, in_time)


@contextmanager
def _dispatcher(options: DemoOptions, logs: Path, gitlab: GitLab) -> Iterator[tuple[Services, Supervisor]]:
    """The servers, migrated, with a worker and beat at work."""
    with embedded_services() as services:
        engine = create_engine(_sqlalchemy(services.database_url))
        migrate(engine)
        engine.dispose()
        providers = {"CRAWLYARD_OAUTH_PROVIDERS": gitlab.providers()}
        environment = services.environment() | {"TMPDIR": str(services.folder)}
        with Supervisor(logs, environment | _settings(options) | providers) as processes:
            processes.start("worker", "worker", "--concurrency", "2")
            processes.start("beat", "beat")
            yield services, processes


def _sqlalchemy(database_url: str) -> str:
    return database_url.replace("postgresql://", "postgresql+psycopg://", 1)


def _worker_settings(options: DemoOptions, services: Services) -> Settings:
    """The settings of worker and beat, without this process's environment."""
    ours = {name.removeprefix(PREFIX).lower(): value for name, value in _settings(options).items()}
    return Settings.model_validate(services.environment() | ours)


def _settings(options: DemoOptions) -> dict[str, str]:
    """The usual settings in proportion to a day that is a minute; a slow job is no stalled one."""
    patience = max(5.0, 3 * _work_seconds(options))
    seconds = {
        "HEARTBEAT_INTERVAL": HEARTBEAT_SECONDS,
        "CONNECTION_TIMEOUT": 4.0,
        "SWEEP_INTERVAL": 0.5,
        "ASSIGN_INTERVAL": 1.0,
        "RECONCILE_INTERVAL": 2.0,
        "RETRY_DELAY": 0.5,
        "START_TIMEOUT": patience,
        "STALL_TIMEOUT": patience,
        "ABSENCE_GRACE": patience,
    }
    return {f"{PREFIX}{name}": str(value) for name, value in seconds.items()}


def _work_seconds(options: DemoOptions) -> float:
    """The mean of one job, so that the fleet has to do for most of the day."""
    seats = options.crawlers * CAPACITY
    return min(LONGEST_JOB_SECONDS, _WORK_SHARE * DAY_SECONDS * seats / options.jobs) / options.speed


def _fleet_options(options: DemoOptions, seed: int, group_tree: GroupTree, gitlab: GitLab) -> FleetOptions:
    return FleetOptions(
        crawlers=options.crawlers,
        seed=seed,
        capacity=CAPACITY,
        work_seconds=_work_seconds(options),
        heartbeat_seconds=HEARTBEAT_SECONDS,
        incidents=incidents_of_a_day(options.crawlers, options.jobs),
        found=group_tree.found,
        gitlab=gitlab,
    )


def _web_app_options(options: DemoOptions, seed: int, group_tree: GroupTree, gitlab: GitLab) -> WebAppOptions:
    return WebAppOptions(options.jobs, seed, _ORDERS_SHARE * DAY_SECONDS / options.speed, group_tree, gitlab)


class _DemoRun:
    """The demo while it runs: shown, supervised, and ended when all is done or time is up."""

    def __init__(
        self, options: DemoOptions, fleet: Fleet, web_app: WebApp, processes: Supervisor, screen_view: View
    ) -> None:
        self._options = options
        self._fleet = fleet
        self._web_app = web_app
        self._processes = processes
        self._view = screen_view
        self._expected = options.jobs + len(web_app.order_log.discovered)

    def run(self, services: Services) -> tuple[DemoAudit, bool]:
        """Play the day to its end; returns the books, and whether it ended in time."""
        url = _sqlalchemy(services.database_url)
        reader = create_engine(
            url, isolation_level="REPEATABLE READ", poolclass=NullPool, connect_args=_UNPREPARED
        )
        audited = partial(self._audit, reader, _worker_settings(self._options, services))
        with psycopg.connect(services.database_url, autocommit=True, **_UNPREPARED) as connection:
            watcher = EventWatcher(connection)
            self._open(watcher)
            with self._web_app:
                in_time = self._run(watcher, audited)
                self._show(watcher)
                return audited(), in_time

    def _open(self, watcher: EventWatcher) -> None:
        """Let the crawlers come to work, but do not wait for ever."""
        deadline = time.monotonic() + _OPENING_SECONDS
        while self._fleet.connected < self._options.crawlers and time.monotonic() < deadline:
            self._turn(watcher)

    def _run(self, watcher: EventWatcher, audited: Callable[[], DemoAudit]) -> bool:
        deadline = time.monotonic() + max(_DEADLINE_SECONDS, self._options.jobs / _SLOWEST_PACE)
        settled_at: float | None = None
        while (now := time.monotonic()) < deadline:
            jobs = self._turn(watcher)
            if not self._is_over(jobs):
                settled_at = None
                continue
            settled_at = settled_at or now
            if now - settled_at > _SETTLING_SECONDS or audited().is_consistent:
                return True
        return False

    def _is_over(self, jobs: dict[str, int]) -> bool:
        ended = sum(jobs.get(status, 0) for status in ("finished", "failed", "cancelled"))
        return self._web_app.is_done and ended >= self._expected and not self._fleet.has_pending_work

    def _turn(self, watcher: EventWatcher) -> dict[str, int]:
        """A quarter of a second; returns the jobs by status."""
        time.sleep(_TURN_SECONDS)
        self._fleet.check()
        self._web_app.check()
        self._processes.restart_crashed()
        if self._processes.restarts >= _CRASHES:
            raise DemoError(f"Worker or beat do not stay up. {self._processes.log_tails()}")
        return self._show(watcher)

    def _show(self, watcher: EventWatcher) -> dict[str, int]:
        jobs, fleet = watcher.jobs_by_status(), self._fleet
        self._view.show(
            Moment(jobs, self._expected, fleet.crawlers, fleet.connected, fleet.counts, watcher.new_events())
        )
        return jobs

    def _audit(self, reader: Engine, worker_settings: Settings) -> DemoAudit:
        with reader.connect() as connection, connection.begin():
            return audit_demo(
                connection, self._web_app.order_log, self._fleet.counts.stale_fences, worker_settings
            )
