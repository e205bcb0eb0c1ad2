"""
No crawler that sends heartbeats is declared dead, whatever else goes wrong, and dead crawlers are found in time.

With real workers, beat, databases and Redis, and fleets that keep sending heartbeats. Several small systems run
side by side, since they mostly wait. At a tenth of the real durations, or at full length in a deep run.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import psycopg
import pytest

from console.embedded.postgres import EmbeddedPostgres, embedded_postgres
from console.embedded.servers import Services
from support.depth import deep
from support.processes import causes
from support.processes.beating_fleet import HeartbeatFleet
from support.processes.causes import Outcome, Stage
from support.processes.little_system import MiniSystem
from support.processes.skewed import off

FULL = {
    "CRAWLYARD_CONNECTION_TIMEOUT": "90",
    "CRAWLYARD_HEARTBEAT_INTERVAL": "30",
    "CRAWLYARD_SWEEP_INTERVAL": "10",
    "CRAWLYARD_ABSENCE_GRACE": "60",
    "CRAWLYARD_STALL_TIMEOUT": "3600",
    "CRAWLYARD_START_TIMEOUT": "300",
    "CRAWLYARD_RETRY_DELAY": "5",
    "CRAWLYARD_DATABASE_WAIT": "60",
}
FEW = 9
"""A number of crawlers too small for mass silence: only the rule under test protects them."""

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.programs, pytest.mark.timeout(1800 if deep() else 300)]

Cause = Callable[[Stage], Outcome]
SideBySide = Callable[..., list[Outcome]]


@pytest.fixture
def durations() -> dict[str, str]:
    """The defaults in a deep run, otherwise a tenth of them."""
    return FULL if deep() else {name: os.environ[name] for name in FULL}


@pytest.fixture
def databases(services: Services, copy_migrated_to: Callable[[str], str]) -> Iterator[Callable[[], str]]:
    """A function that creates a migrated database and returns its URL."""
    made: list[str] = []

    def make() -> str:
        name = f"little_{len(made)}"
        made.append(name)
        return copy_migrated_to(name)

    with psycopg.connect(services.database_url, autocommit=True) as admin:
        yield make
        for name in made:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own_server(services: Services) -> Iterator[EmbeddedPostgres]:
    """A database server that may be stopped, with a migrated database."""
    binaries = os.environ.get("CRAWLYARD_TEST_POSTGRES_BIN")
    with embedded_postgres({"fsync": "off"}, binaries=Path(binaries) if binaries else None) as server:
        environment = os.environ | {"DATABASE_URL": server.url}
        subprocess.run([sys.executable, "-m", "console.main", "migrate"], env=environment, check=True)
        yield server


@pytest.fixture
def side_by_side(
    services: Services, databases: Callable[[], str], durations: dict[str, str], tmp_path: Path
) -> SideBySide:
    """A function that runs each cause in a system of its own, all at once, with a given number of crawlers."""

    def stage(number: int, crawlers: int, database: str | None) -> Stage:
        broker = f"{services.broker_url.rsplit('/', 1)[0]}/{number}"
        system = MiniSystem(f"system-{number}", database or databases(), broker, tmp_path, durations)
        return Stage(system, HeartbeatFleet(system, crawlers))

    def all_at_once(*happening: tuple[Cause, int, str | None]) -> list[Outcome]:
        stages = [stage(n, crawlers, database) for n, (_, crawlers, database) in enumerate(happening)]
        with ThreadPoolExecutor(len(stages)) as threads:
            futures = [
                threads.submit(_to_its_end, cause, its)
                for (cause, _, _), its in zip(happening, stages, strict=True)
            ]
        outcomes = [future.result() for future in futures]
        log.info("outcomes\n%s", "\n".join(map(str, outcomes)))
        return outcomes

    return all_at_once


def _to_its_end(cause: Cause, stage: Stage) -> Outcome:
    try:
        return cause(stage)
    finally:
        stage.system.end()


def nobody_lost(outcomes: list[Outcome]) -> bool:
    """True if no crawler that kept sending heartbeats lost a job in any of them."""
    return [(o.cause, o.seconds, o.lost) for o in outcomes if o.lost] == []


@pytest.mark.gate
def test_no_outage_expires_crawlers_that_send_heartbeats(
    side_by_side: SideBySide, own_server: EmbeddedPostgres
) -> None:
    """The workers are away, with the heartbeats kept or lost, or also beat; or the database is, for two timeouts."""
    kept, wiped = ((0.7, 0.9, 1.1, 1.3), (0.67, 0.8, 1.0, 1.3)) if deep() else ((0.8,), (0.8,))
    away = [
        (partial(causes.workers_away, timeouts=length, wiped=is_wiped), FEW, None)
        for lengths, is_wiped in ((kept, False), (wiped, True))
        for length in lengths
    ]

    outcomes = side_by_side(
        (partial(causes.database_away, server=own_server), FEW, own_server.url),
        (partial(causes.workers_away, timeouts=2, wiped=True, beat_too=True), 30, None),
        *away,
    )

    assert nobody_lost(outcomes)
    for outcome in outcomes:
        assert len(outcome.deaths) == 1, outcome


@pytest.mark.gate
def test_no_crawler_that_sends_heartbeats_expires(
    side_by_side: SideBySide, durations: dict[str, str]
) -> None:
    """
    Sweeps overtake heartbeats, frames flood the queues, clocks are wrong, a gateway is cut off: no crawler is lost.

    Dead crawlers are found by the first sweep whose as_of is a timeout after their last frame, within two intervals
    of that time plus the delay of the sweeps on this machine; also without beat, and without other frames.
    """
    beats = (3600, -3600) if deep() else (3600,)
    floods = [(50_000, 500), (10_000, 1)] if deep() else [(20_000, 500)]

    outcomes = side_by_side(
        *(
            (partial(causes.beats_overtaken, frames=frames, frames_a_message=of), FEW, None)
            for frames, of in floods
        ),
        (partial(causes.clocks_off, beats=beats), FEW, None),
        (causes.gateway_cut_off, FEW, None),
        (causes.crawlers_die, FEW, None),
    )

    assert nobody_lost(outcomes)
    assert [len(outcome.deaths) for outcome in outcomes] == [*[1] * len(floods), 1, 3, FEW]
    # A flood delays the sweeps too, so a grace may follow it: there it is enough that the dead crawlers are found.
    prompt = outcomes[len(floods) :]
    interval = float(durations["CRAWLYARD_SWEEP_INTERVAL"])
    promised = float(durations["CRAWLYARD_CONNECTION_TIMEOUT"]) + 2 * interval
    for outcome in prompt:
        assert all(death.by_first_sweep for death in outcome.deaths.values()), outcome
        assert max(death.delay for death in outcome.deaths.values()) < promised + outcome.sweeps.stall, (
            outcome
        )
        assert outcome.sweeps.usual_gap < 1.5 * interval, outcome
    assert median(death.delay for outcome in prompt for death in outcome.deaths.values()) < promised


def test_a_skewed_process_shifts_every_clock_function() -> None:
    """The tests of wrong clocks rely on this."""
    code = (
        "import time, datetime as d, kombu.transport.redis as r; u = d.timezone.utc; "
        "print(time.time(), time.time_ns() / 1e9, r.time(), d.datetime.now().timestamp(), "
        "d.datetime.now(u).timestamp(), d.datetime.utcnow().replace(tzinfo=u).timestamp(), "
        "d.datetime.today().timestamp(), time.mktime(time.localtime()))"
    )
    for seconds in (0, 3600, -3600):
        output = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | off(seconds),
            capture_output=True,
            text=True,
            check=True,
        )
        clocks = [float(clock) - time.time() for clock in output.stdout.split()]
        assert len(clocks) == 8
        assert all(abs(clock - seconds) < 60 for clock in clocks), (seconds, clocks)
