"""Everything that runs in a chaos run: servers, links, workers, beat, gateways and web app."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from sqlalchemy import create_engine
from ulid import ULID

from console.embedded.servers import Services, embedded_services
from console.simulator.gitlab import GitLab
from console.simulator.web_app import WebApp, WebAppOptions
from persistence.migrations.run import migrate
from persistence.sanitize.crawler_secret import hash_of, new_secret
from proofs.chaos.accounting.journal import Journal
from proofs.chaos.scale import CRAWLERS_PROCESS, DOORS, GATEWAYS, SETTINGS, group_tree_of
from proofs.chaos.system.processes import Process
from proofs.chaos.system.producer import UnreliablePublisher
from proofs.chaos.system.proxy import Link, Network
from support.processes.workers import free_port

SERVER_LINKS = ("workers to redis", "workers to postgres", "fleet to redis", "fleet to postgres")
CRAWLER_LINKS = ("crawlers to east", "crawlers to west")
LINKS = SERVER_LINKS + CRAWLER_LINKS
WORKERS = ("worker-1", "worker-2")
_DISCOVERS_AT = 0.3
"""When the discovery is ordered, as a share of the time of the orders, so that it meets faults."""
_ADMIN_OPTIONS = {"autocommit": True, "connect_timeout": 10}


@dataclass(frozen=True)
class Load:
    """How many jobs are ordered over how many seconds, and which share of the messages is confused."""

    seed: int
    jobs: int
    seconds: float
    confused_share: float


@dataclass(frozen=True)
class ChaosSystem:
    """The targets of faults."""

    services: Services
    links: dict[str, Link]
    processes: dict[str, Process]
    web_app: WebApp
    publisher: UnreliablePublisher
    folder: Path

    def admin(self) -> psycopg.Connection[Any]:
        """Return a direct connection to the database, over no link."""
        return psycopg.connect(self.services.database_url, **_ADMIN_OPTIONS)

    def broker(self) -> "redis.Redis":
        """Return a direct connection to Redis, over no link."""
        return redis.Redis.from_url(self.services.broker_url, socket_timeout=10, decode_responses=True)

    def order(self, gateway: str, line: str) -> None:
        """Send a gateway an order about its crawlers."""
        with (self.folder / f"{gateway}.orders").open("a") as orders:
            orders.write(line + "\n")

    def restart_crashed(self) -> None:
        """Restart crashed programs, and raise errors of our own threads."""
        self.web_app.check()
        self.publisher.check()
        for process in self.processes.values():
            process.restart_crashed()


@contextmanager
def running_system(load: Load, folder: Path, postgres_binaries: Path | None = None) -> Iterator[ChaosSystem]:
    """Start everything; the web app starts to order at once."""
    with ExitStack() as stack:
        services = stack.enter_context(
            embedded_services({"fsync": "off"}, postgres_binaries=postgres_binaries)
        )
        stack.callback(_keep_logs, services.folder, folder)
        _migrate(services.database_url)
        network = stack.enter_context(Network())
        ports = {name: free_port() for name in DOORS}
        links = {name: network.link(_port(services, name)) for name in SERVER_LINKS}
        links |= {f"crawlers to {name}": network.link(port) for name, port in ports.items()}
        for name in GATEWAYS:
            (folder / f"{name}.orders").touch()
        with closing(psycopg.connect(services.database_url, **_ADMIN_OPTIONS)) as admin:
            enroll(admin, folder)
        gitlab = stack.enter_context(GitLab())
        processes: dict[str, Process] = {}
        stack.callback(_end_all, processes)
        for process in _processes(load, services, links, ports, folder):
            processes[process.name] = process
        journal = stack.enter_context(closing(Journal(folder / "web-app.journal")))
        broker_url = _through(services.broker_url, links["fleet to redis"])
        publisher = UnreliablePublisher(broker_url, f"{load.seed} web app", load.confused_share, journal)
        stack.enter_context(closing(publisher))
        stack.enter_context(publisher)
        group_tree = group_tree_of(load.seed)
        options = WebAppOptions(
            load.jobs, load.seed, load.seconds, group_tree, gitlab, discovers_at=_DISCOVERS_AT * load.seconds
        )
        web_app = WebApp(options, publisher, _through(services.database_url, links["fleet to postgres"]))
        stack.enter_context(web_app)
        yield ChaosSystem(services, links, processes, web_app, publisher, folder)


def enroll(admin: psycopg.Connection[Any], folder: Path) -> None:
    """Revoke the secret of the crawlers, if they have one, and give them another."""
    secret, id_ = new_secret(), str(ULID())
    admin.execute("UPDATE crawler_credential SET revoked_at = now() WHERE revoked_at IS NULL")
    admin.execute(
        "INSERT INTO crawler_credential (id, name, secret_hash) VALUES (%s, %s, %s)",
        [id_, id_, hash_of(secret)],
    )
    with (folder / f"{CRAWLERS_PROCESS}.orders").open("a") as orders:
        orders.write(f"secret {secret}\n")


def _processes(
    load: Load, services: Services, links: dict[str, Link], ports: dict[str, int], folder: Path
) -> Iterator[Process]:
    """
    Start two workers with different pools, beat, the gateways, and the crawlers.

    Yields each one, so that it can be ended.
    """
    ours = SETTINGS | {
        "DATABASE_URL": _through(services.database_url, links["workers to postgres"]),
        "BROKER_URL": _through(services.broker_url, links["workers to redis"]),
    }
    theirs = {
        "DATABASE_URL": _through(services.database_url, links["fleet to postgres"]),
        "BROKER_URL": _through(services.broker_url, links["fleet to redis"]),
    }
    pools = {"worker-1": ["--concurrency", "2"], "worker-2": ["--concurrency", "2", "--pool", "threads"]}
    for name, options in pools.items():
        yield Process(name, "console.main", ["worker", "--name", name, *options], ours, folder)
    yield Process("beat", "console.main", ["beat"], ours, folder)
    for name, port in ports.items():
        own = {"CRAWLYARD_GATEWAY_NAME": name, "CRAWLYARD_GATEWAY_LISTEN": f"tcp://127.0.0.1:{port}"}
        yield Process(name, "console.main", ["gateway"], SETTINGS | theirs | own, folder)
    for name in GATEWAYS:
        if name == CRAWLERS_PROCESS:
            module = "proofs.chaos.system.crawlers_process"
            options = [f"tcp://127.0.0.1:{links[link].port}" for link in CRAWLER_LINKS]
            arguments = [name, str(load.seed), str(folder), *options]
        else:
            module = "proofs.chaos.system.gateway_process"
            arguments = [name, str(load.seed), str(load.confused_share), str(folder)]
        yield Process(name, module, arguments, theirs, folder)


def _end_all(processes: dict[str, Process]) -> None:
    """Kill all processes; their results are no longer needed."""
    for process in processes.values():
        process.kill()


def _migrate(url: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    migrate(engine)
    engine.dispose()


def _port(services: Services, link: str) -> int:
    return services.redis.port if link.endswith("redis") else services.postgres.port


def _through(url: str, link: Link) -> str:
    """Return the URL through a link."""
    return url.replace(f":{urlsplit(url).port}/", f":{link.port}/")


def _keep_logs(source: Path, target: Path) -> None:
    for name in ("postgres.log", "redis.log"):
        with suppress(OSError):
            (target / name).write_bytes((source / name).read_bytes())
