"""The gateway of the tests repeats what matters until it is answered, and loses no frame; crawlers fail by seed."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from kombu.exceptions import OperationalError

from console.simulator.counters import FleetCounts
from console.simulator.crawler import Crawler, CrawlerState, FleetContext
from console.simulator.mishaps import PERMANENT, RECOVERABLE, OutcomePolicy
from console.simulator.projects import by_first_group, targets
from console.simulator.sessions import Order
from support.own_gateway.gateway import Gateway, Link
from support.own_gateway.sessions import OwnSession, OwnSessions

ORDER = Order("F", "project", "gid://gitlab/Project/1", "https://gitlab.example.org", None, "glpat-abc")


class FakePublisher:
    """Records what is published; fails while it is broken."""

    def __init__(self) -> None:
        self.is_broken = False
        self.published: list[tuple[str, dict[str, Any]]] = []

    def publish(self, task: str, payload: dict[str, Any]) -> None:
        """Record the task, or fail."""
        if self.is_broken:
            raise OperationalError
        self.published.append((task, payload))

    def of(self, task: str) -> list[dict[str, Any]]:
        """The payloads of the published messages of one task."""
        return [payload for name, payload in self.published if name == task]


@pytest.fixture
def publisher() -> FakePublisher:
    """A publisher without a broker."""
    return FakePublisher()


@pytest.fixture
def gateway(publisher: FakePublisher, database: str) -> Iterator[Gateway]:
    """A gateway on a migrated database."""
    gateway = Gateway(publisher, database, 0.2, FleetCounts())
    yield gateway
    gateway.close()


@pytest.fixture
def crawler(gateway: Gateway) -> Crawler:
    """A crawler that never ends its first job."""
    context = FleetContext(
        OwnSessions(gateway),
        OutcomePolicy(1),
        FleetCounts(),
        lambda script: next(script, None) and None,
        60.0,
        3,
    )
    return Crawler(context, "crawler-01", "seed", 5)


def link_of(crawler: Crawler) -> Link:
    """The connection of a crawler."""
    session = crawler._session
    assert isinstance(session, OwnSession)
    return session.link


def step_until(gateway: Gateway, done: Callable[[], object]) -> None:
    """Run the gateway until *done* is true."""
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        gateway.step()
        time.sleep(0.005)


def test_a_registration_is_repeated_under_one_id_until_its_row_exists(
    gateway: Gateway, crawler: Crawler, publisher: FakePublisher, database: str
) -> None:
    """A lost registration is repeated after a second; once the row exists, the gateway sends heartbeats instead."""
    step_until(gateway, lambda: len(publisher.of("connections.register")) == 2)
    registrations = publisher.of("connections.register")
    assert registrations[0] == registrations[1]
    assert registrations[0]["connection_id"] == link_of(crawler).id
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO socket_connection (id) VALUES (%s)", [link_of(crawler).id])
    step_until(gateway, lambda: publisher.of("connections.heartbeat"))
    assert publisher.of("connections.heartbeat")[0]["beats"][0]["connection_id"] == link_of(crawler).id


def test_a_closed_connection_is_replaced_under_a_new_id(
    gateway: Gateway, crawler: Crawler, publisher: FakePublisher, database: str
) -> None:
    """A connection's id is never used again."""
    first = link_of(crawler).id
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO socket_connection (id, is_active, closed_at) VALUES (%s, false, now())", [first]
        )
    step_until(gateway, lambda: link_of(crawler).id != first)
    step_until(
        gateway, lambda: publisher.of("connections.register")[-1]["connection_id"] == link_of(crawler).id
    )


def test_frames_are_neither_lost_nor_reordered_while_the_broker_is_down(
    gateway: Gateway, crawler: Crawler, publisher: FakePublisher
) -> None:
    """Frames wait in order until publishing works again."""
    publisher.is_broken = True
    for n in range(3):
        gateway.send(link_of(crawler), "job_progress", f"F{n}")
        gateway.step()
        time.sleep(0.03)
    assert (publisher.published, gateway.unsent) == ([], 3)
    publisher.is_broken = False
    step_until(gateway, lambda: gateway.unsent == 0)
    frames = [
        frame_item["frame"] for message in publisher.of("crawler.frames") for frame_item in message["frames"]
    ]
    assert [frame["jobId"] for frame in frames] == ["F0", "F1", "F2"]


def test_a_frozen_crawler_sends_stale_frames_before_it_registers_again(gateway: Gateway) -> None:
    """A frozen crawler does not notice that its orders were revoked or that its connection has expired."""
    scripts = []
    counts = FleetCounts()
    crawler = Crawler(
        FleetContext(OwnSessions(gateway), OutcomePolicy(1), counts, scripts.append, 60.0, 3),
        "crawler-01",
        "seed",
        5,
    )
    old = link_of(crawler)
    crawler.accept(ORDER)
    crawler.freeze()
    session = crawler._session
    assert isinstance(session, OwnSession)
    session.revoke(ORDER.fence)
    session.on_expired()
    assert (crawler.state, link_of(crawler), session.beats) == (CrawlerState.FROZEN, old, False)
    frozen = scripts[-1]
    next(frozen)
    assert (gateway.unsent, counts.stale_said, counts.stale_fences) == (2, 2, [ORDER.fence])
    assert list(frozen) == []
    assert link_of(crawler) is not old
    assert (crawler.state, crawler.fences(), counts.came_back) == (CrawlerState.AT_WORK, [], 1)


def test_the_seed_determines_orders_and_outcomes() -> None:
    """The same seed gives the same orders and outcomes, another seed gives others."""
    orders = [targets(random.Random(seed), 300) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert len(set(orders[0])) == 300
    sizes = [len(group) for group in by_first_group(orders[0])]
    assert sizes[0] > 10 * sizes[-1]
    outcomes = [[OutcomePolicy(seed).outcome(ORDER) for _ in range(3)] for seed in (1, 1)]
    assert outcomes[0] == outcomes[1]


def test_simulated_errors_contain_tokens_as_careless_libraries_log_them() -> None:
    """Some simulated errors contain the access token, so that redaction has something to redact."""
    shown = [str(failure.as_data(ORDER)) for failure in (*RECOVERABLE, *PERMANENT) if failure.contains_token]
    assert len(shown) == 3
    assert all("glpat-abc" in text for text in shown)
    assert "glpat-abc" not in repr(ORDER)


def test_a_gateway_that_cannot_read_the_orders_lists_no_jobs(
    gateway: Gateway, crawler: Crawler, publisher: FakePublisher, database: str
) -> None:
    """It sends heartbeats without lists of jobs, since jobs missing from a list would be disowned."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO socket_connection (id) VALUES (%s)", [link_of(crawler).id])
    step_until(gateway, lambda: publisher.of("connections.heartbeat"))
    assert publisher.of("connections.heartbeat")[0]["beats"][0]["active_jobs"] == []

    gateway._database._url = "postgresql://nobody@127.0.0.1:9/nothing"
    gateway._database.close()

    step_until(gateway, lambda: "active_jobs" not in publisher.of("connections.heartbeat")[-1]["beats"][0])
    assert publisher.of("connections.heartbeat")[-1]["beats"][0]["connection_id"] == link_of(crawler).id


def test_a_slow_poll_does_not_delay_the_next_for_long(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is three times as long as the poll took, but at most a second."""
    monkeypatch.setattr(gateway._database, "orders", lambda _: time.sleep(0.5) or [])

    gateway.step()

    assert 0.5 < gateway._next_poll - time.monotonic() <= 1.0
