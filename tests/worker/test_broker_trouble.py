"""After any trouble with Redis or the network, workers of every pool consume again within seconds."""

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
"""Each pool has its own queue, which shows which worker consumes."""

PACE = 1 if deep() else 0.25
"""The factor applied to celeryconfig's timeouts of broker connections."""
OPTIONS = {
    "socket_timeout": 3 * PACE,
    "socket_connect_timeout": 2 * PACE,
    "health_check_interval": max(5 * PACE, 1),
    # Messages that one test could not acknowledge must be gone before the next.
    "visibility_timeout": 10,
    "unacked_restore_interval": 1,
}
FREEZES_S = (8 * PACE, 16 * PACE)
"""A freeze that BRPOP outlasts while other commands time out, and one that no connection outlasts."""
SOON_S = 15.0
"""For trouble that is noticed at once, on a loaded machine."""

pytestmark = [pytest.mark.programs, pytest.mark.timeout(400)]


class Site:
    """
    A server, a wire to it, and a worker of each pool at the other end.

    The workers write notes to a second server, which has no trouble.
    """

    def __init__(self, server: Valkey, notes: Valkey, wire: Wire, workers: dict[str, Worker]) -> None:
        self.server = server
        self.notes = notes
        self.wire = wire
        self.workers = workers

    def push(self, pool: str, **kwargs: object) -> str:
        """Publish a task as a bare producer does; returns the message's id."""
        message = envelope("crawler.frames", kwargs)
        self.server.client.lpush(POOLS[pool], json.dumps(message))
        return str(message["headers"]["id"])

    def seen(self) -> set[str]:
        """The ids of the processed messages."""
        return {json.loads(note)["id"] for note in self.notes.client.lrange("seen", 0, -1)}

    def consumes(self, within: float = SOON_S) -> None:
        """
        Wait until every worker has processed a message that is pushed from now on.

        Several are pushed, because a server loses messages to connections that are dead without its knowledge.
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

    def processes_all(self, ids: set[str], within: float = SOON_S) -> None:
        """Wait until exactly these messages are processed and acknowledged."""
        wait_until(lambda: ids <= self.seen(), "all are processed", patience=within)
        wait_until(lambda: not self.server.client.exists("unacked"), "all are acknowledged", patience=within)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests; each test begins and ends with consuming workers."""
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
    """All three workers consume and have no unacknowledged message before the trouble begins."""
    site.consumes()
    wait_until(lambda: not site.server.client.exists(*POOLS.values(), "unacked"), "all is acknowledged")


def test_work_resumes_after_flushall(site: Site) -> None:
    """Workers continue with an emptied Redis."""
    site.server.client.flushall()
    site.consumes()


def test_work_resumes_after_client_kill(site: Site) -> None:
    """Workers reconnect after the server closed their connections, and lose no message."""
    site.server.client.client_kill_filter(_type="normal", skipme=True)
    site.processes_all({site.push(pool) for pool in POOLS for _ in range(5)})


def test_work_resumes_after_the_network_was_cut(site: Site) -> None:
    """Both ends notice the cut."""
    site.wire.cut()
    site.consumes()


def test_work_resumes_after_a_restart(site: Site) -> None:
    """Redis comes back empty; no worker pauses longer than two seconds before it retries."""
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
    """The address leads to another server, as with a virtual IP."""
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
    """A replica refuses writes; after its promotion workers consume again."""
    site.server.client.replicaof("127.0.0.1", "9")
    try:
        for worker in site.workers.values():
            wait_until(lambda w=worker: re.search("UNBLOCKED|ReadOnlyError", w.output()), "it is refused")
    finally:
        site.server.client.replicaof("NO", "ONE")
    site.processes_all({site.push(pool) for pool in POOLS})


def test_work_resumes_after_an_error_reply(site: Site) -> None:
    """A key of the wrong type replaces a queue for a while."""
    for queue in POOLS.values():
        site.server.client.set(queue, "no list")
    for worker in site.workers.values():
        wait_until(lambda w=worker: "WRONGTYPE" in w.output(), "it is refused")
    site.server.client.delete(*POOLS.values())
    site.processes_all({site.push(pool) for pool in POOLS})


@pytest.mark.parametrize("seconds", FREEZES_S)
def test_work_resumes_after_a_freeze(site: Site, seconds: float) -> None:
    """A server stops answering for a while; unanswered commands are repeated."""
    with site.server.frozen():
        time.sleep(seconds)
    site.consumes()


def test_work_resumes_after_the_network_went_dead(site: Site) -> None:
    """Neither end is notified; the worker detects it by its timeouts."""
    site.wire.go_dead()
    site.consumes(within=SOON_S + 20 * PACE)


def test_an_unanswered_acknowledgement_does_not_leak_a_slot(site: Site) -> None:
    """
    Each worker's only unit ends while Redis is frozen, for longer than a command waits for its answer.

    The connections survive the freeze, so only the end of the unit can free its slot.
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
    A full Redis records no unacknowledged messages, but all waiting messages are processed once.

    Only that makes room again.
    """
    for worker in site.workers.values():
        worker.send(signal.SIGSTOP)
    ids = {site.push(pool) for pool in POOLS for _ in range(5)}
    with full(site.server):
        for worker in site.workers.values():
            worker.send(signal.SIGCONT)
        site.processes_all(ids)
        with (
            pytest.raises(OperationalError, match="maxmemory"),
            closing(Producer(site.server.url)) as producer,
        ):
            producer.publish("jobs.assign", {})


def test_a_worker_starts_although_redis_is_full(site: Site, tmp_path: Path) -> None:
    """A worker drains a Redis that filled up while no worker ran."""
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
                    lambda: not server.client.exists("crawler", "unacked"),
                    "all is processed",
                    patience=SOON_S,
                )


@contextmanager
def full(server: Valkey) -> Iterator[None]:
    """A server whose memory is full."""
    server.client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        server.client.config_set("maxmemory", 0)
