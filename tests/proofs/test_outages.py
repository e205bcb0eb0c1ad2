"""
Our own outage, whatever its length, closes no live connection: lengths around the start of the grace, densely.

At the default settings (a timeout of 90 s, heartbeats every 30 s, sweeps every 10 s), in virtual time: the rows age.
With fewer than ten crawlers, so that mass silence does not protect them.
"""

from collections.abc import Iterator

import pytest

from persistence.settings import settings
from support.depth import deep
from support.outage import STEP_S, Line, Outage, outages, released_after
from support.worlds.world import World

TIMEOUT_S, BEAT_S, SWEEP_S = 90, 30, 10
UNNOTICED_S = TIMEOUT_S - 2 * BEAT_S
"""Sweeps that are this far apart are not an outage."""
LENGTHS_S = (10, 25, 30, 35, 45, 60, 70, 75, 80, 85, 90, 100, 120, 180)


pytestmark = pytest.mark.timeout(1800 if deep() else 120)


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The default settings, which cost no real time here."""
    monkeypatch.setenv("CRAWLYARD_CONNECTION_TIMEOUT", str(TIMEOUT_S))
    monkeypatch.setenv("CRAWLYARD_HEARTBEAT_INTERVAL", str(BEAT_S))
    monkeypatch.setenv("CRAWLYARD_SWEEP_INTERVAL", str(SWEEP_S))
    monkeypatch.setenv("CRAWLYARD_ABSENCE_GRACE", "60")
    monkeypatch.setenv("CRAWLYARD_START_TIMEOUT", "3600")
    monkeypatch.setenv("CRAWLYARD_STALL_TIMEOUT", "3600")
    settings.cache_clear()
    yield
    settings.cache_clear()


def chosen() -> list[Outage]:
    """All outages in a deep run; otherwise each length once, its variant in turn."""
    if deep():
        return outages(range(STEP_S, 2 * TIMEOUT_S + STEP_S + 1, STEP_S))
    every = outages(LENGTHS_S)
    return [o for n, o in enumerate(every) if n % 8 == n // 8 % 8]


@pytest.mark.usefixtures("defaults")
def test_no_outage_requeues_a_job_of_a_crawler_that_sends_heartbeats(world: World) -> None:
    """
    Nor does one hide a dead crawler for longer than the grace: its jobs are requeued in time.

    Outages last from nothing to two timeouts. Heartbeats are kept in Redis or lost with it; the crawlers sent their
    last ones at any time before; the last sweep just ended or ran half an interval ago; sweeps come after the
    heartbeats or before them.
    """
    fleet = [world.crawler_with_jobs()[0] for _ in range(BEAT_S // STEP_S)]
    orders = {crawler.id: crawler.orders() for crawler in fleet}
    late = []
    for number, outage in enumerate(chosen()):
        dead, _ = world.crawler_with_jobs()
        dead_for = number * STEP_S % TIMEOUT_S
        line = Line(world, orders, dead)
        line.begin(outage, dead_for)

        released = released_after(line, outage, SWEEP_S, until=outage.seconds + TIMEOUT_S + 4 * SWEEP_S)

        assert {crawler.id: crawler.orders() for crawler in fleet} == orders, outage
        if released is None or released > due(outage, dead_for) + 2 * SWEEP_S:
            late.append((outage, dead_for, released))
    assert late == []
    assert world.scalar("SELECT count(*) FROM socket_connection WHERE is_active") == len(fleet)


@pytest.mark.usefixtures("defaults")
def test_a_clock_set_back_expires_only_dead_crawlers(world: World) -> None:
    """All recorded times lie in the future then: nothing is closed for one timeout, but dead crawlers soon after."""
    fleet = [world.crawler_with_jobs()[0] for _ in range(BEAT_S // STEP_S)]
    orders = {crawler.id: crawler.orders() for crawler in fleet}
    dead, _ = world.crawler_with_jobs()
    line = Line(world, orders, dead)
    line.begin(Outage(0, wiped=False, since_sweep=0, overtaken=False), dead_for=TIMEOUT_S - STEP_S)
    line.pass_time(-3600)
    line.clock = 0

    released = released_after(
        line, Outage(0, wiped=False, since_sweep=0, overtaken=False), SWEEP_S, until=TIMEOUT_S + 4 * SWEEP_S
    )

    assert {crawler.id: crawler.orders() for crawler in fleet} == orders
    assert released is not None
    assert TIMEOUT_S <= released <= TIMEOUT_S + 2 * SWEEP_S


def due(outage: Outage, dead_for: int) -> int:
    """When a crawler that had been silent for *dead_for* must be found: after the grace, if there is one."""
    silent = TIMEOUT_S - dead_for
    # The last sweep was up to an interval before the outage, and the next is up to one after it.
    is_unnoticed = outage.seconds + 2 * SWEEP_S < UNNOTICED_S
    return max(silent, outage.seconds) if is_unnoticed else max(silent, outage.seconds + TIMEOUT_S)
