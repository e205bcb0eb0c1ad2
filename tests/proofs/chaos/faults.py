"""The faults: each has a name, a weight, targets and a duration, and can be undone."""

import os
import signal
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

from proofs.chaos.scale import CRAWLERS_PROCESS, DOORS, GATEWAYS, SESSIONS
from proofs.chaos.system.proxy import LinkState
from proofs.chaos.system.system import CRAWLER_LINKS, LINKS, WORKERS, ChaosSystem, enroll

POSTGRES = "postgres"
REDIS = "redis"

_TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < %s
"""


@dataclass(frozen=True)
class Injection:
    """One fault of one target; *draw*, between 0 and 1, makes the remaining choices."""

    target: str
    draw: float


class Fault:
    """A kind of fault; one that is over at once has no duration."""

    name: ClassVar[str]
    weight: ClassVar[int] = 2
    targets: ClassVar[tuple[str, ...]]
    """One of them is hit. Two faults never overlap on one target."""
    seconds: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> str | None:
        """Inject it; return details for the log."""

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        """Undo it."""


class RedisFlushed(Fault):
    """Redis loses all messages that are not consumed yet."""

    name = "redis flushed"
    targets = (REDIS,)

    def inject(self, system: ChaosSystem, injection: Injection) -> str:
        with closing(system.broker()) as broker:
            waiting = sum(int(broker.llen(queue)) for queue in ("crawler", "dispatch", "upkeep"))
            broker.flushall()
        return f"{waiting} messages lost"


class RedisKilled(Fault):
    """Redis is killed, and starts again empty."""

    name = "redis killed"
    targets = (REDIS,)
    seconds = (0.3, 8.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.services.redis.stop("kill")

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        system.services.redis.start()


class RedisFrozen(Fault):
    """Redis accepts connections and does not answer."""

    name = "redis frozen"
    weight = 1
    targets = (REDIS,)
    seconds = (1.0, 8.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        _signal(system.services.redis.pid, signal.SIGSTOP)

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        _signal(system.services.redis.pid, signal.SIGCONT)


class PostgresRestarted(Fault):
    """Postgres loses every open transaction, and recovers as from a crash."""

    name = "postgres restarted in immediate mode"
    targets = (POSTGRES,)
    seconds = (0.3, 8.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.services.postgres.stop("immediate")

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        system.services.postgres.start()


class BackendsTerminated(Fault):
    """Postgres terminates sessions during their work."""

    name = "postgres backends terminated"
    weight = 4
    targets = (POSTGRES,)

    def inject(self, system: ChaosSystem, injection: Injection) -> str:
        with closing(system.admin()) as admin:
            row = admin.execute(_TERMINATE, [0.3 + injection.draw]).fetchone()
        return f"{row[0] if row else 0} of them"


class NetworkCut(Fault):
    """Connections are reset and refused."""

    name = "network cut"
    weight = 4
    targets = LINKS
    seconds = (0.2, 10.0)
    state: ClassVar[LinkState] = LinkState.CUT

    def inject(self, system: ChaosSystem, injection: Injection) -> str | None:
        system.links[injection.target].set_state(self.state)
        return None

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        system.links[injection.target].set_state(LinkState.NORMAL)


class NetworkStalled(NetworkCut):
    """Data is delayed for a while, and then delivered."""

    name = "network stalled"
    state = LinkState.STALLED


class NetworkDeaf(NetworkCut):
    """Data is discarded; at the end both sides see a reset."""

    name = "network deaf"
    state = LinkState.DEAF


class NetworkSlow(NetworkCut):
    """Data is slow."""

    name = "network slow"
    seconds = (2.0, 12.0)
    state = LinkState.SLOW

    def inject(self, system: ChaosSystem, injection: Injection) -> str:
        delay = 0.02 + 0.2 * injection.draw
        system.links[injection.target].set_state(LinkState.SLOW, delay=delay, bytes_a_second=200_000)
        return f"{delay * 1000:.0f} ms a chunk"


class WorkerKilled(Fault):
    """A worker and its child processes are killed during their work."""

    name = "worker killed"
    weight = 4
    targets = WORKERS
    seconds = (0.1, 6.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].kill()

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].start()


class BeatKilled(WorkerKilled):
    """Only the workers' own timers publish the sweep."""

    name = "beat killed"
    weight = 2
    targets = ("beat",)
    seconds = (1.0, 15.0)


class WorkerStopped(WorkerKilled):
    """A worker gets SIGTERM, as in a deploy, and is started again."""

    name = "worker told to stop"
    weight = 1
    seconds = (3.0, 6.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].ask_to_stop()


class ChildKilled(Fault):
    """A child process dies while it processes a message."""

    name = "worker's child killed"
    targets = ("worker-1",)

    def inject(self, system: ChaosSystem, injection: Injection) -> str | None:
        return None if system.processes[injection.target].kill_child(injection.draw) else "there was none"


class WorkerFrozen(Fault):
    """A worker keeps its locks and messages, and continues later."""

    name = "worker frozen"
    targets = WORKERS
    seconds = (1.0, 10.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].freeze()

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].resume()


class NetworkDeafToOrders(NetworkCut):
    """What gateways send is lost; what crawlers send arrives."""

    name = "network deaf to orders"
    weight = 2
    targets = CRAWLER_LINKS
    state = LinkState.DEAF_TO_CALLER


class NetworkDeafToReports(NetworkDeafToOrders):
    """What crawlers send is lost; what gateways send arrives."""

    name = "network deaf to reports"
    state = LinkState.DEAF_TO_TARGET


class DoorKilled(WorkerKilled):
    """A gateway of Crawlyard's is killed; its crawlers go to the other one, with their jobs."""

    name = "crawlyard gateway killed"
    targets = DOORS


class DoorStopped(WorkerStopped):
    """A gateway gets SIGTERM, as in a deploy: its crawlers are asked to come back."""

    name = "crawlyard gateway told to stop"
    targets = DOORS


class DoorFrozen(WorkerFrozen):
    """A gateway holds its links and does nothing."""

    name = "crawlyard gateway frozen"
    targets = DOORS


class CredentialRevoked(Fault):
    """The crawlers' secret is revoked, and they get another."""

    name = "credential revoked"
    weight = 1
    targets = (POSTGRES,)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        with closing(system.admin()) as admin:
            enroll(admin, system.folder)


class GatewayFrozen(WorkerFrozen):
    """All crawlers of a gateway are silent, mostly for longer than the timeout, and then send stale frames."""

    name = "gateway frozen"
    targets = GATEWAYS
    seconds = (2.0, 14.0)


class GatewayKilled(WorkerKilled):
    """A gateway and its crawlers are gone, or only crawlers, with their sessions; others replace them."""

    name = "gateway killed"
    weight = 1
    targets = GATEWAYS

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        if injection.target == CRAWLERS_PROCESS:
            (system.folder / SESSIONS).unlink(missing_ok=True)
        super().undo(system, injection)


class CrawlersRestarted(WorkerKilled):
    """Crawlers are killed, and come back with their sessions: they begin their jobs again where these were."""

    name = "crawlers restarted with their sessions"
    weight = 2
    targets = (CRAWLERS_PROCESS,)
    seconds = (0.1, 1.0)


class CrawlerDied(Fault):
    """A busy crawler falls silent for ever."""

    name = "crawler died"
    weight = 3
    targets = GATEWAYS
    order: ClassVar[str] = "die"

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.order(injection.target, f"{self.order} {injection.draw}")


class CrawlerFrozen(CrawlerDied):
    """A crawler is silent until its connection has expired, and then reports the end of its closed attempts."""

    name = "crawler frozen"
    order = "freeze"


class CrawlerLeft(CrawlerDied):
    """A crawler disconnects during its work."""

    name = "crawler left"
    weight = 1
    order = "leave"


class MessagesConfused(Fault):
    """During the whole run, 30 % of all messages are delayed, sent twice or delivered twice."""

    name = "messages confused"
    targets = ("messages",)
    share: ClassVar[float] = 0.3

    def undo(self, system: ChaosSystem, injection: Injection) -> None:
        system.publisher.share = 0.0
        for gateway in GATEWAYS:
            system.order(gateway, "reliable")


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        RedisFlushed(),
        RedisKilled(),
        RedisFrozen(),
        PostgresRestarted(),
        BackendsTerminated(),
        NetworkCut(),
        NetworkStalled(),
        NetworkDeaf(),
        NetworkSlow(),
        WorkerKilled(),
        WorkerStopped(),
        ChildKilled(),
        WorkerFrozen(),
        BeatKilled(),
        NetworkDeafToOrders(),
        NetworkDeafToReports(),
        DoorKilled(),
        DoorStopped(),
        DoorFrozen(),
        CredentialRevoked(),
        GatewayFrozen(),
        GatewayKilled(),
        CrawlersRestarted(),
        CrawlerDied(),
        CrawlerFrozen(),
        CrawlerLeft(),
        MessagesConfused(),
    )
}


def _signal(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        os.kill(pid, number)
