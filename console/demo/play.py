"""
The demo: a small fleet at work for a minute, on servers of its own, with an audit at the end.

Servers, worker, beat and two gateways are real; the web app and the fleet are simulated. The crawlers speak protocol 1
over Unix sockets. Some of them die, one disconnects, and one freezes and comes back with stale frames. In the middle of
the day a gateway is killed. The demo ends by itself, and succeeds only if the audit finds no fault.
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

from console.demo.audit import DemoAudit, audit_demo
from console.demo.event_watcher import BAD, DemoEvent, EventWatcher
from console.demo.gateways import DemoGateway, start_gateways, wait_until_listening
from console.demo.live_view import Moment, View, view
from console.demo.processes import Supervisor
from console.demo.summary import Result, print_summary
from console.embedded.servers import Services, embedded_services
from console.output.screen import console
from console.simulator.fleet import Fleet, FleetOptions, demo_incidents
from console.simulator.gitlab import GitLab
from console.simulator.projects import GroupTree, pick_group_tree
from console.simulator.protocol_1 import Protocol1Sessions
from console.simulator.web_app import WebApp, WebAppOptions
from persistence.exceptions import CrawlyardError
from persistence.migrations.run import migrate
from persistence.schema.states import JOB_ENDED
from persistence.settings import PREFIX, Settings
from tasks.client import Producer

DAY_SECONDS = 40.0
"""Of ordering and crawling; jobs of lost crawlers take a little longer."""
LONGEST_JOB_SECONDS = 6.0
CAPACITY = 5
HEARTBEAT_SECONDS = 1.0

_ORDERS_SHARE = 0.7
_USES_BEFORE = 10
"""The discovering account's token is used at least this many times before it expires."""
_WORK_SHARE = 0.75
_STEP_SECONDS = 0.25
_CONNECTING_SECONDS = 30.0
_DEADLINE_SECONDS = 180.0
_SLOWEST_PACE = 20.0
"""Jobs per second; with thousands of jobs, the deadline is extended to allow for this pace."""
_SETTLING_SECONDS = 15.0
"""For frames that are still in transit when all jobs have ended."""
_MOST_RESTARTS = 5
_KILL_AFTER = 0.4
"""The share of the jobs after which a gateway is killed."""
INTERRUPTED = 130


_UNPREPARED: dict[str, Any] = {"prepare_threshold": None}
"""No prepared statements: behind a pooler, the next statement may run in another session."""


@dataclass(frozen=True)
class DemoOptions:
    """The options of `crawlyard demo`; see its help."""

    jobs: int
    crawlers: int
    seed: int | None
    speed: float
    json_file: Path | None
    plain: bool


class DemoError(CrawlyardError):
    """The demo could not continue; the text says why, and where the logs are."""


def run(options: DemoOptions) -> int:
    """Run the demo, print how it went, and return the exit code: 0 only if the audit finds no fault."""
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
    title = f"Crawlyard demo: {options.jobs} jobs, {options.crawlers} crawlers, seed {seed}"
    begun = time.monotonic()
    group_tree = pick_group_tree(random.Random(f"{seed} estate"), options.jobs // 10)  # noqa: S311 - a simulation
    with (
        GitLab(dies_at_use=len(group_tree.jobs()) // 2 + _USES_BEFORE) as gitlab,
        view(screen, title, is_plain=options.plain) as screen_view,
        _dispatcher(options, logs, gitlab) as running,
    ):
        services, processes, gateways = running
        with closing(Producer(services.broker_url)) as publisher:
            fleet = Fleet(
                _fleet_options(options, seed, group_tree, gitlab),
                partial(Protocol1Sessions, [gateway.address for gateway in gateways], seed=str(seed)),
            )
            web_app = WebApp(
                _web_app_options(options, seed, group_tree, gitlab), publisher, services.database_url
            )
            with fleet:
                demo_run = _DemoRun(
                    options, fleet, web_app, screen_view, processes=processes, victim=gateways[0]
                )
                audited, in_time = demo_run.run(services)
    counts = {name: value for name, value in vars(fleet.counts).items() if isinstance(value, int)}
    requested = {"jobs": options.jobs, "crawlers": options.crawlers, "speed": options.speed, "seed": seed}
    return Result(requested, time.monotonic() - begun, audited, counts, processes.restarts, logs, in_time)


@contextmanager
def _dispatcher(
    options: DemoOptions, logs: Path, gitlab: GitLab
) -> Iterator[tuple[Services, Supervisor, list[DemoGateway]]]:
    """Run the servers, migrated, with a worker, beat and gateways at which crawlers may connect."""
    with embedded_services() as services:
        engine = create_engine(_sqlalchemy(services.database_url))
        migrate(engine)
        engine.dispose()
        providers = {"CRAWLYARD_OAUTH_PROVIDERS": gitlab.providers()}
        environment = services.environment() | {"TMPDIR": str(services.folder)}
        with Supervisor(logs, environment | _settings(options) | providers) as processes:
            gateways = start_gateways(processes, services.folder)
            processes.start("worker", "worker", "--concurrency", "2")
            processes.start("beat", "beat")
            wait_until_listening(gateways, _CONNECTING_SECONDS)
            yield services, processes, gateways


def _sqlalchemy(database_url: str) -> str:
    return database_url.replace("postgresql://", "postgresql+psycopg://", 1)


def _worker_settings(options: DemoOptions, services: Services) -> Settings:
    """Return the settings of worker and beat, without this process's environment."""
    ours = {name.removeprefix(PREFIX).lower(): value for name, value in _settings(options).items()}
    return Settings.model_validate(services.environment() | ours)


def _settings(options: DemoOptions) -> dict[str, str]:
    """Return short timeouts, since the demo is short. They are long enough that a slow job is not taken for stalled."""
    patience = max(5.0, 3 * _work_seconds(options))
    seconds = {
        "HEARTBEAT_INTERVAL": HEARTBEAT_SECONDS,
        "CONNECTION_TIMEOUT": 6.0,
        "RESUME_WINDOW": 3.0,
        "SWEEP_INTERVAL": 0.5,
        "ASSIGN_INTERVAL": 1.0,
        "RECONCILE_INTERVAL": 2.0,
        "RETRY_DELAY": 0.5,
        "START_TIMEOUT": patience,
        "STALL_TIMEOUT": patience,
        "ABSENCE_GRACE": patience,
    }
    # The demo publishes as if neither were set.
    shared = {f"{PREFIX}QUEUE_PREFIX": "", f"{PREFIX}DEPLOYMENT": ""}
    return {f"{PREFIX}{name}": str(value) for name, value in seconds.items()} | shared


def _work_seconds(options: DemoOptions) -> float:
    """Return the mean duration of a job, such that the fleet is busy for most of the demo."""
    slots = options.crawlers * CAPACITY
    return min(LONGEST_JOB_SECONDS, _WORK_SHARE * DAY_SECONDS * slots / options.jobs) / options.speed


def _fleet_options(options: DemoOptions, seed: int, group_tree: GroupTree, gitlab: GitLab) -> FleetOptions:
    return FleetOptions(
        crawlers=options.crawlers,
        seed=seed,
        capacity=CAPACITY,
        work_seconds=_work_seconds(options),
        incidents=demo_incidents(options.crawlers, options.jobs),
        found=group_tree.found,
        gitlab=gitlab,
    )


def _web_app_options(options: DemoOptions, seed: int, group_tree: GroupTree, gitlab: GitLab) -> WebAppOptions:
    return WebAppOptions(options.jobs, seed, _ORDERS_SHARE * DAY_SECONDS / options.speed, group_tree, gitlab)


class _DemoRun:
    """A running demo: it shows the state, restarts crashed processes, and ends when all is done or time is up."""

    def __init__(
        self,
        options: DemoOptions,
        fleet: Fleet,
        web_app: WebApp,
        screen_view: View,
        *,
        processes: Supervisor,
        victim: DemoGateway,
    ) -> None:
        self._options = options
        self._fleet = fleet
        self._web_app = web_app
        self._processes = processes
        self._victim = victim
        self._was_killed = False
        self._news: list[DemoEvent] = []
        self._view = screen_view
        self._expected = options.jobs + len(web_app.order_log.discovered)

    def run(self, services: Services) -> tuple[DemoAudit, bool]:
        """Run to the end; returns the audit, and whether the demo ended in time."""
        url = _sqlalchemy(services.database_url)
        reader = create_engine(
            url, isolation_level="REPEATABLE READ", poolclass=NullPool, connect_args=_UNPREPARED
        )
        audited = partial(self._audit, reader, _worker_settings(self._options, services))
        with psycopg.connect(services.database_url, autocommit=True, **_UNPREPARED) as connection:
            watcher = EventWatcher(connection)
            self._wait_for_crawlers(watcher)
            with self._web_app:
                in_time = self._run(watcher, audited)
                self._show(watcher)
                return audited(), in_time

    def _wait_for_crawlers(self, watcher: EventWatcher) -> None:
        """Return when all crawlers are connected, or after half a minute."""
        deadline = time.monotonic() + _CONNECTING_SECONDS
        while self._fleet.connected < self._options.crawlers and time.monotonic() < deadline:
            self._step(watcher)

    def _run(self, watcher: EventWatcher, audited: Callable[[], DemoAudit]) -> bool:
        deadline = time.monotonic() + max(_DEADLINE_SECONDS, self._options.jobs / _SLOWEST_PACE)
        settled_at: float | None = None
        while (now := time.monotonic()) < deadline:
            jobs = self._step(watcher)
            if not self._is_over(jobs):
                settled_at = None
                continue
            settled_at = settled_at or now
            if now - settled_at > _SETTLING_SECONDS or audited().is_consistent:
                return True
        return False

    def _is_over(self, jobs: dict[str, int]) -> bool:
        ended = sum(jobs.get(status, 0) for status in JOB_ENDED)
        return self._web_app.is_done and ended >= self._expected and not self._fleet.has_pending_work

    def _step(self, watcher: EventWatcher) -> dict[str, int]:
        """Wait a quarter of a second, look after the processes, and return the jobs by status."""
        time.sleep(_STEP_SECONDS)
        self._fleet.check()
        self._web_app.check()
        self._kill_gateway()
        self._processes.restart_crashed()
        if self._processes.restarts >= _MOST_RESTARTS:
            raise DemoError(f"A process keeps crashing. {self._processes.log_tails()}")
        return self._show(watcher)

    def _kill_gateway(self) -> None:
        """Kill a gateway in the middle of the day, once; not while a frozen crawler waits for its word."""
        counts = self._fleet.counts
        if self._was_killed or counts.came_back < counts.froze or counts.ended < self._expected * _KILL_AFTER:
            return
        self._was_killed = True
        self._victim.child.kill()
        self._news.append(DemoEvent(f"{self._victim.child.name} was killed with -9", BAD))

    def _show(self, watcher: EventWatcher) -> dict[str, int]:
        jobs, fleet, news = watcher.jobs_by_status(), self._fleet, self._news
        self._news = []
        events = [*news, *watcher.new_events()]
        self._view.show(Moment(jobs, self._expected, fleet.crawlers, fleet.connected, fleet.counts, events))
        return jobs

    def _audit(self, reader: Engine, worker_settings: Settings) -> DemoAudit:
        with reader.connect() as connection, connection.begin():
            counts = self._fleet.counts
            return audit_demo(
                connection,
                self._web_app.order_log,
                counts.stale_fences,
                worker_settings,
                undelivered_fences=counts.undelivered_fences,
                gone_connections=counts.gone_connections,
            )
