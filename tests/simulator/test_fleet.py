"""The simulated fleet keeps a gateway's promises: what matters is said until it is answered, and no word is lost."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from kombu.exceptions import OperationalError

from console.simulator.counters import Tally
from console.simulator.crawler import Crawler, Mood, World
from console.simulator.gateway import Gateway, Order
from console.simulator.mishaps import FOR_GOOD, RECOVERABLE, Fate
from console.simulator.projects import by_first_group, targets

ORDER = Order("F", "C", "project", "gid://gitlab/Project/1", "https://gitlab.example.org", None, "glpat-abc")


class Bell:
    """Notes what is rung; refuses while it is broken."""

    def __init__(self) -> None:
        self.is_broken = False
        self.rung: list[tuple[str, dict[str, Any]]] = []

    def ring(self, task: str, **arguments: Any) -> None:
        """Note it, or refuse."""
        if self.is_broken:
            raise OperationalError
        self.rung.append((task, arguments))

    def of(self, task: str) -> list[dict[str, Any]]:
        """What was rung of one task."""
        return [arguments for name, arguments in self.rung if name == task]


@pytest.fixture
def bell() -> Bell:
    """A broker, so to speak."""
    return Bell()


@pytest.fixture
def gateway(bell: Bell, database: str) -> Iterator[Gateway]:
    """A gateway at a migrated database."""
    gateway = Gateway(bell, database, 0.2, Tally())
    yield gateway
    gateway.close()


@pytest.fixture
def crawler(gateway: Gateway) -> Crawler:
    """A crawler that never gets to the end of its first job."""
    world = World(gateway, Fate(1), Tally(), lambda script: next(script, None) and None, 60.0, 3)
    return Crawler(world, "crawler-01", "seed", 5)


def turn_until(gateway: Gateway, done: Callable[[], object]) -> None:
    """Let the gateway work until something is true."""
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        gateway.turn()
        time.sleep(0.005)


def test_a_registration_is_repeated_under_one_id_until_its_row_is_there(
    gateway: Gateway, crawler: Crawler, bell: Bell, database: str
) -> None:
    """A lost registration costs a second. Once the row is there nothing is repeated, and beats begin."""
    turn_until(gateway, lambda: len(bell.of("connections.register")) == 2)
    said = bell.of("connections.register")
    assert said[0] == said[1]
    assert said[0]["connection_id"] == crawler.link.id
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO socket_connection (id) VALUES (%s)", [crawler.link.id])
    turn_until(gateway, lambda: bell.of("connections.heartbeat"))
    assert bell.of("connections.heartbeat")[0]["beats"][0]["connection_id"] == crawler.link.id


def test_a_closed_connection_is_followed_by_one_under_a_new_id(
    gateway: Gateway, crawler: Crawler, bell: Bell, database: str
) -> None:
    """An id serves once."""
    first = crawler.link.id
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO socket_connection (id, is_active, closed_at) VALUES (%s, false, now())", [first]
        )
    turn_until(gateway, lambda: crawler.link.id != first)
    turn_until(gateway, lambda: bell.of("connections.register")[-1]["connection_id"] == crawler.link.id)


def test_no_frame_is_lost_and_none_overtakes_another_while_the_broker_is_gone(
    gateway: Gateway, crawler: Crawler, bell: Bell
) -> None:
    """Frames wait in their order until a bell is heard."""
    bell.is_broken = True
    for n in range(3):
        gateway.say(crawler.link, "job_progress", f"F{n}")
        gateway.turn()
        time.sleep(0.03)
    assert (bell.rung, gateway.unsaid) == ([], 3)
    bell.is_broken = False
    turn_until(gateway, lambda: gateway.unsaid == 0)
    frames = [word["frame"] for message in bell.of("crawler.frames") for word in message["frames"]]
    assert [frame["jobId"] for frame in frames] == ["F0", "F1", "F2"]


def test_a_frozen_crawler_speaks_for_its_old_jobs_before_it_starts_anew(gateway: Gateway) -> None:
    """It hears neither that its work was given away nor that its connection has expired."""
    scripts = []
    tally = Tally()
    crawler = Crawler(World(gateway, Fate(1), tally, scripts.append, 60.0, 3), "crawler-01", "seed", 5)
    old = crawler.link
    crawler.take(ORDER)
    crawler.freeze()
    crawler.drop(ORDER.fence)
    crawler.hear_expired()
    assert (crawler.mood, crawler.link, crawler.beats) == (Mood.FROZEN, old, False)
    frozen = scripts[-1]
    next(frozen)
    assert (gateway.unsaid, tally.stale_said, tally.stale_fences) == (2, 2, [ORDER.fence])
    assert list(frozen) == []
    assert crawler.link is not old
    assert (crawler.mood, crawler.fences(), tally.came_back) == (Mood.AT_WORK, [], 1)


def test_the_seed_decides_what_is_ordered_and_how_it_ends() -> None:
    """The same seed gives the same day, another one another."""
    days = [targets(random.Random(seed), 300) for seed in (1, 1, 2)]
    assert days[0] == days[1] != days[2]
    assert len(set(days[0])) == 300
    sizes = [len(group) for group in by_first_group(days[0])]
    assert sizes[0] > 10 * sizes[-1]
    fates = [[Fate(seed).outcome(ORDER) for _ in range(3)] for seed in (1, 1)]
    assert fates[0] == fates[1]


def test_errors_are_told_with_the_token_that_a_careless_library_would_tell() -> None:
    """Else there would be nothing to redact."""
    told = [str(mishap.told(ORDER)) for mishap in (*RECOVERABLE, *FOR_GOOD) if mishap.tells_a_token]
    assert len(told) == 3
    assert all("glpat-abc" in text for text in told)
    assert "glpat-abc" not in repr(ORDER)


def test_a_gateway_that_cannot_read_the_orders_lists_no_jobs(
    gateway: Gateway, crawler: Crawler, bell: Bell, database: str
) -> None:
    """It would disown what it has not seen; that it lives it says all the same."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO socket_connection (id) VALUES (%s)", [crawler.link.id])
    turn_until(gateway, lambda: bell.of("connections.heartbeat"))
    assert bell.of("connections.heartbeat")[0]["beats"][0]["active_jobs"] == []

    gateway._database._url = "postgresql://nobody@127.0.0.1:9/nothing"
    gateway._database.close()

    turn_until(gateway, lambda: "active_jobs" not in bell.of("connections.heartbeat")[-1]["beats"][0])
    assert bell.of("connections.heartbeat")[-1]["beats"][0]["connection_id"] == crawler.link.id


def test_a_look_that_took_long_does_not_blind_the_gateway(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rests three times as long as a look took, but a second at most."""
    monkeypatch.setattr(gateway._database, "orders", lambda _: time.sleep(0.5) or [])

    gateway.turn()

    assert 0.5 < gateway._next_look - time.monotonic() <= 1.0
