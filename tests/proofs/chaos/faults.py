"""What can be done to the yard: each fault has a name, a weight, targets, a length, and undoes itself."""

import os
import signal
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

from proofs.chaos.scale import GATEWAYS
from proofs.chaos.system.proxy import LinkState
from proofs.chaos.system.system import LINKS, WORKERS, ChaosSystem

POSTGRES = "postgres"
REDIS = "redis"

_TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < %s
"""


@dataclass(frozen=True)
class Injection:
    """One fault done to one target; *draw*, between 0 and 1, decides what is left open."""

    target: str
    draw: float


class Fault:
    """What can happen; those that are over at once have no length."""

    name: ClassVar[str]
    weight: ClassVar[int] = 2
    targets: ClassVar[tuple[str, ...]]
    """One of them is hit. No two faults last on one target at a time."""
    seconds: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> str | None:
        """Let it happen; returns what a reader may want to know besides."""

    def heal(self, system: ChaosSystem, injection: Injection) -> None:
        """Undo it."""


class RedisFlushed(Fault):
    """All that nobody has consumed yet is gone."""

    name = "redis flushed"
    targets = (REDIS,)

    def inject(self, system: ChaosSystem, injection: Injection) -> str:
        with closing(system.broker()) as broker:
            waiting = sum(int(broker.llen(queue)) for queue in ("crawler", "dispatch", "upkeep"))
            broker.flushall()
        return f"{waiting} messages lost"


class RedisKilled(Fault):
    """It comes back empty."""

    name = "redis killed"
    targets = (REDIS,)
    seconds = (0.3, 8.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.services.redis.stop("kill")

    def heal(self, system: ChaosSystem, injection: Injection) -> None:
        system.services.redis.start()


class RedisFrozen(Fault):
    """It accepts, and is silent."""

    name = "redis frozen"
    weight = 1
    targets = (REDIS,)
    seconds = (1.0, 8.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        _signal(system.services.redis.pid, signal.SIGSTOP)

    def heal(self, system: ChaosSystem, injection: Injection) -> None:
        _signal(system.services.redis.pid, signal.SIGCONT)


class PostgresRestarted(Fault):
    """Every transaction is gone that had not committed; it recovers as from a crash."""

    name = "postgres restarted in immediate mode"
    targets = (POSTGRES,)
    seconds = (0.3, 8.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.services.postgres.stop("immediate")

    def heal(self, system: ChaosSystem, injection: Injection) -> None:
        system.services.postgres.start()


class BackendsTerminated(Fault):
    """Sessions end in the middle of what they do."""

    name = "postgres backends terminated"
    weight = 4
    targets = (POSTGRES,)

    def inject(self, system: ChaosSystem, injection: Injection) -> str:
        with closing(system.admin()) as admin:
            row = admin.execute(_TERMINATE, [0.3 + injection.draw]).fetchone()
        return f"{row[0] if row else 0} of them"


class NetworkCut(Fault):
    """Connections are reset, and refused."""

    name = "network cut"
    weight = 4
    targets = LINKS
    seconds = (0.2, 10.0)
    state: ClassVar[LinkState] = LinkState.CUT

    def inject(self, system: ChaosSystem, injection: Injection) -> str | None:
        system.links[injection.target].set_state(self.state)
        return None

    def heal(self, system: ChaosSystem, injection: Injection) -> None:
        system.links[injection.target].set_state(LinkState.NORMAL)


class NetworkStalled(NetworkCut):
    """Nothing arrives for a while, then all of it."""

    name = "network stalled"
    state = LinkState.STALLED


class NetworkDeaf(NetworkCut):
    """Everything is swallowed; in the end both sides hear that they were talking to nobody."""

    name = "network deaf"
    state = LinkState.DEAF


class NetworkSlow(NetworkCut):
    """Everything takes its time."""

    name = "network slow"
    seconds = (2.0, 12.0)
    state = LinkState.SLOW

    def inject(self, system: ChaosSystem, injection: Injection) -> str:
        delay = 0.02 + 0.2 * injection.draw
        system.links[injection.target].set_state(LinkState.SLOW, delay=delay, bytes_a_second=200_000)
        return f"{delay * 1000:.0f} ms a piece"


class WorkerKilled(Fault):
    """A worker and its children die in the middle of what they do."""

    name = "worker killed"
    weight = 4
    targets = WORKERS
    seconds = (0.1, 6.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].kill()

    def heal(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].start()


class BeatKilled(WorkerKilled):
    """Nobody rings but the workers' own timers."""

    name = "beat killed"
    weight = 2
    targets = ("beat",)
    seconds = (1.0, 15.0)


class WorkerStopped(WorkerKilled):
    """A worker is told to stop, as in a deploy, and started again."""

    name = "worker told to stop"
    weight = 1
    seconds = (3.0, 6.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].ask_to_stop()


class ChildKilled(Fault):
    """A process of the pool dies in the middle of its message."""

    name = "worker's child killed"
    targets = ("worker-1",)

    def inject(self, system: ChaosSystem, injection: Injection) -> str | None:
        return None if system.processes[injection.target].kill_child(injection.draw) else "there was none"


class WorkerFrozen(Fault):
    """A worker holds what it holds, and goes on later as if nothing had been."""

    name = "worker frozen"
    targets = WORKERS
    seconds = (1.0, 10.0)

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].freeze()

    def heal(self, system: ChaosSystem, injection: Injection) -> None:
        system.processes[injection.target].resume()


class GatewayFrozen(WorkerFrozen):
    """All of its crawlers are silent, most often for too long, and then say stale words."""

    name = "gateway frozen"
    targets = GATEWAYS
    seconds = (2.0, 14.0)


class GatewayKilled(WorkerKilled):
    """Its crawlers never speak again; another comes in its place."""

    name = "gateway killed"
    weight = 1
    targets = GATEWAYS


class CrawlerDied(Fault):
    """One of the busy ones is silent from now on."""

    name = "crawler died"
    weight = 3
    targets = GATEWAYS
    order: ClassVar[str] = "die"

    def inject(self, system: ChaosSystem, injection: Injection) -> None:
        system.order(injection.target, f"{self.order} {injection.draw}")


class CrawlerFrozen(CrawlerDied):
    """One is silent until it has expired, and then tells the end of what was taken from it."""

    name = "crawler frozen"
    order = "freeze"


class CrawlerLeft(CrawlerDied):
    """One says goodbye in the middle of its work."""

    name = "crawler left"
    weight = 1
    order = "leave"


class MessagesConfused(Fault):
    """Of what the fleet and the web app say, 30 % is held back, said twice or delivered twice; all the time."""

    name = "messages confused"
    targets = ("messages",)
    share: ClassVar[float] = 0.3

    def heal(self, system: ChaosSystem, injection: Injection) -> None:
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
        GatewayFrozen(),
        GatewayKilled(),
        CrawlerDied(),
        CrawlerFrozen(),
        CrawlerLeft(),
        MessagesConfused(),
    )
}


def _signal(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        os.kill(pid, number)
