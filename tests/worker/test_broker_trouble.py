"""Whatever befalls Redis and the way there, each worker consumes again by itself within seconds, in each pool."""

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from support.depth import deep
from support.processes.wire import Wire
from support.processes.workers import Valkey, Worker, envelope, running, wait_until
from tasks.client import Producer

POOLS = {"prefork": "crawler", "threads": "dispatch", "solo": "upkeep"}
"""Each has a queue of its own, so that it is seen who consumes."""

PACE = 1 if deep() else 0.25
"""Of celeryconfig's timeouts of the broker's connections."""
OPTIONS = {
    "socket_timeout": 3 * PACE,
    "socket_connect_timeout": 2 * PACE,
    "health_check_interval": max(5 * PACE, 1),
    # What could not be acknowledged in one test is to be gone before the next.
    "visibility_timeout": 10,
    "unacked_restore_interval": 1,
}
FREEZES_S = (8 * PACE, 16 * PACE)
"""One that no connection outlasts, and one that a BRPOP does, while what is said meanwhile is not answered."""
SOON_S = 15.0
"""For all that is noticed at once; a loaded machine needs some."""

pytestmark = pytest.mark.timeout(400)


class Site:
    """
    A server, a wire to it, and a worker of each pool at its end.

    What they have done they note at a server of its own, which no trouble befalls.
    """

    def __init__(self, server: Valkey, notes: Valkey, wire: Wire, workers: dict[str, Worker]) -> None:
        self.server = server
        self.notes = notes
        self.wire = wire
        self.workers = workers

    def push(self, pool: str, **kwargs: object) -> str:
        """Ring a task as a bare producer does; returns the message's id."""
        message = envelope("crawler.frames", kwargs)
        self.server.client.lpush(POOLS[pool], json.dumps(message))
        return str(message["headers"]["id"])

    def seen(self) -> set[str]:
        """The ids of the messages that were served."""
        return {json.loads(note)["id"] for note in self.notes.client.lrange("seen", 0, -1)}

    def consumes(self, within: float = SOON_S) -> None:
        """
        Every worker serves a message that is pushed from now on.

        Several are pushed: what a server hands to a connection that is dead, and does not know it, is gone.
        """
        pushed: dict[str, set[str]] = {pool: set() for pool in POOLS}
        deadline = time.monotonic() + within

        def missing() -> list[str]:
            seen = self.seen()
            return [pool for pool in POOLS if not pushed[pool] & seen]

        while pools := missing():
            assert time.monotonic() < deadline, f"not within {within} s: {pools}"
            for pool in pools:
                pushed[pool].add(self.push(pool))
            time.sleep(0.2)
        assert all(worker.lives() for worker in self.workers.values())

    def serves_all(self, ids: set[str], within: float = SOON_S) -> None:
        """These very messages are served and acknowledged."""
        wait_until(lambda: ids <= self.seen(), "all are served", patience=within)
        wait_until(lambda: not self.server.client.exists("unacked"), "all are acknowledged", patience=within)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests: each leaves it consuming, and begins by seeing to it that it does."""
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        server, notes = Valkey(folder), Valkey(folder)
        stack.enter_context(running(server, notes))
        wire = Wire(server.port)
        stack.callback(wire.close)
        workers = {}
        for pool, queue in POOLS.items():
            workers[pool] = Worker(
                "support.processes.worker_app", f"redis://127.0.0.1:{wire.port}/0", folder / pool, pool, queues=queue,
                wait=False, NOTES_URL=notes.url, BROKER_OPTIONS=json.dumps(OPTIONS),
            )  # fmt: skip
            stack.enter_context(running(workers[pool]))
        for worker in workers.values():
            worker.wait_until_ready()
        yield Site(server, notes, wire, workers)


@pytest.fixture(autouse=True)
def at_work(site: Site) -> None:
    """All three consume before the trouble begins, and have nothing in hand."""
    site.consumes()
    wait_until(lambda: not site.server.client.exists(*POOLS.values(), "unacked"), "all is acknowledged")


def test_work_resumes_after_flushall(site: Site) -> None:
    """An emptied Redis is as good as any."""
    site.server.client.flushall()
    site.consumes()


def test_work_resumes_after_client_kill(site: Site) -> None:
    """Connections that the server closes are made anew, and what is pushed meanwhile waits for them."""
    site.server.client.client_kill_filter(_type="normal", skipme=True)
    site.serves_all({site.push(pool) for pool in POOLS for _ in range(5)})


def test_work_resumes_after_the_network_was_cut(site: Site) -> None:
    """Both ends learn of it."""
    site.wire.cut()
    site.consumes()


def test_work_resumes_after_a_restart(site: Site) -> None:
    """It comes back empty; and nobody pauses for more than two seconds before looking for it again."""
    before = {pool: len(worker.output()) for pool, worker in site.workers.items()}
    site.server.kill()
    time.sleep(30 if deep() else 5)
    site.server.start()

    site.consumes()

    for pool, worker in site.workers.items():
        pauses = re.findall(r"Trying again in ([\d.]+) seconds", worker.output()[before[pool] :])
        assert len(pauses) >= 2, pool
        assert max(map(float, pauses)) <= 2, pool


def test_work_resumes_after_a_failover(site: Site, tmp_path: Path) -> None:
    """The address leads to another server, as with a service's name or a virtual IP."""
    other = Valkey(tmp_path)
    with running(other):
        first, site.server = site.server, other
        site.wire.leads_to = other.port
        try:
            site.wire.cut()
            for pool in POOLS:
                site.push(pool)
            wait_until(
                lambda: not other.client.exists(*POOLS.values(), "unacked"),
                "all is consumed",
                patience=SOON_S,
            )
        finally:
            site.server = first
            site.wire.leads_to = first.port
        site.wire.cut()
        site.consumes()


def test_work_resumes_after_redis_was_a_replica(site: Site) -> None:
    """One that was demoted refuses to be written to; promoted again it is consumed from."""
    site.server.client.replicaof("127.0.0.1", "9")
    try:
        for worker in site.workers.values():
            wait_until(lambda w=worker: re.search("UNBLOCKED|ReadOnlyError", w.output()), "it is refused")
    finally:
        site.server.client.replicaof("NO", "ONE")
    site.serves_all({site.push(pool) for pool in POOLS})


def test_work_resumes_after_an_error_reply(site: Site) -> None:
    """A key of another type in the place of a queue; then no more."""
    for queue in POOLS.values():
        site.server.client.set(queue, "no list")
    for worker in site.workers.values():
        wait_until(lambda w=worker: "WRONGTYPE" in w.output(), "it is refused")
    site.server.client.delete(*POOLS.values())
    site.serves_all({site.push(pool) for pool in POOLS})


@pytest.mark.parametrize("seconds", FREEZES_S)
def test_work_resumes_after_a_freeze(site: Site, seconds: float) -> None:
    """A server that stops to answer, and goes on: whatever was not answered meanwhile is said again."""
    with site.server.frozen():
        time.sleep(seconds)
    site.consumes()


def test_work_resumes_after_the_network_went_dead(site: Site) -> None:
    """No end of the connection learns of it: the worker is the one that finds out."""
    site.wire.go_dead()
    site.consumes(within=SOON_S + 20 * PACE)


def test_an_unanswered_acknowledgement_does_not_leak_a_slot(site: Site) -> None:
    """
    Each worker's only unit ends while Redis is frozen, for longer than an answer is waited for.

    And for less than the connections last: nothing but the unit's end gives its slot back.
    """
    begun = site.notes.client.llen("order")
    for pool in POOLS:
        site.push(pool, seconds=0.5)
    wait_until(lambda: site.notes.client.llen("order") == begun + len(POOLS), "all are busy")
    with site.server.frozen():
        time.sleep(FREEZES_S[0])

    site.consumes()


def test_a_full_redis_is_drained(site: Site) -> None:
    """
    It takes no note of what is in hand, and yet all that waits is served, once.

    Nothing else would ever make room: who waited for that would wait for ever.
    """
    for worker in site.workers.values():
        worker.send(signal.SIGSTOP)
    ids = {site.push(pool) for pool in POOLS for _ in range(5)}
    with full(site.server):
        for worker in site.workers.values():
            worker.send(signal.SIGCONT)
        site.serves_all(ids)
        with (
            pytest.raises(OperationalError, match="maxmemory"),
            closing(Producer(site.server.url)) as producer,
        ):
            producer.publish("jobs.assign", {})


def test_a_worker_starts_although_redis_is_full(site: Site, tmp_path: Path) -> None:
    """As after an evening without workers."""
    server = Valkey(tmp_path)
    with running(server):
        for _ in range(5):
            server.client.lpush("crawler", json.dumps(envelope("crawler.frames")))
        with full(server):
            worker = Worker(
                "support.processes.worker_app", server.url, tmp_path / "log", "solo", NOTES_URL=site.notes.url
            )
            with running(worker):
                wait_until(
                    lambda: not server.client.exists("crawler", "unacked"), "all is served", patience=SOON_S
                )


@contextmanager
def full(server: Valkey) -> Iterator[None]:
    """A server that has no room for another word."""
    server.client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        server.client.config_set("maxmemory", 0)
