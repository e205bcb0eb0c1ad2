"""A system with a gateway: its web app's orders, its crawlers, and what becomes of the jobs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from ulid import ULID

from persistence.sanitize.crawler_secret import hash_of, new_secret
from support.gateway.crawlers import Crawler
from support.processes.forks import Forked
from support.processes.little_system import MiniSystem
from support.processes.workers import free_port, wait_until

TOKEN = "glpat-abcdefghij0123456789"
ORIGIN = "https://gitlab.example.org"


class GatewaySystem:
    """A worker and a gateway that listens on a Unix socket of the tests' own user."""

    def __init__(self, system: MiniSystem, folder: Path) -> None:
        self.system = system
        self.socket = folder / "gateway.sock"
        self.port = free_port()
        self.listen = f"unix:{self.socket}?trust=peer, tcp://127.0.0.1:{self.port}"
        system.rows("UPDATE account SET access_token = %s", TOKEN)
        system.rows(
            "INSERT INTO account_origin (account_id, origin, bound_by) VALUES ('acc', %s, 'operator')", ORIGIN
        )
        self.worker = system.start("worker --concurrency 2")
        self.gateway = self.start_gateway()
        system.is_well()

    def start_gateway(self, listen: str = "", name: str = "east", **settings: str) -> Forked:
        """Start a gateway, and wait until it listens."""
        gateway = self.system.start(
            "gateway",
            forked=True,
            CRAWLYARD_GATEWAY_LISTEN=listen or self.listen,
            CRAWLYARD_GATEWAY_NAME=name,
            **settings,
        )
        assert isinstance(gateway, Forked)
        started = re.compile(rf"gateway_started .*pid={gateway.pid}\b")
        wait_until(lambda: started.search(self.log_of(gateway)) or not gateway.lives(), "the gateway listens")
        assert gateway.lives(), self.log_of(gateway)
        return gateway

    def second_gateway(self, folder: Path) -> Path:
        """Start another gateway beside the first; returns its socket."""
        other = folder / "west.sock"
        self.start_gateway(f"unix:{other}?trust=peer", "west")
        return other

    def stop_second_gateway(self) -> None:
        """Stop it."""
        self.system.stop(self.system.processes[-1])

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """Let no program have a session with the database."""
        server, name = self.system.database_url.rsplit("/", 1)
        with psycopg.connect(f"{server}/template1", autocommit=True) as admin:
            admin.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(Identifier(name)))
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            try:
                yield
            finally:
                admin.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(Identifier(name)))

    def drop_clients_of_broker(self, pause_ms: int) -> None:
        """Let the broker close the connections of all programs, and answer none for a while."""
        broker = self.system.broker
        for kind in ("normal", "pubsub"):
            broker.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        broker.execute_command("CLIENT", "PAUSE", pause_ms, "ALL")

    def places_of(self, secret: str, but: str = "") -> list[str]:
        """Where a text is found: in the log of a program, on the broker, or in a table."""
        places = [
            path.name
            for path in self.system.folder.glob("*.log")
            if secret in path.read_text(errors="replace")
        ]
        for key in self.system.broker.scan_iter():
            value = self.system.broker.dump(key) or b""
            places += [key.decode()] * (secret.encode() in value)
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        for (table,) in self.system.rows(tables):
            count = SQL("SELECT count(*) FROM {} t WHERE position(%s IN t::text) > 0").format(
                Identifier(table)
            )
            if table != but and self.system.one(count.as_string(), secret):
                places.append(table)
        return places

    def restart_gateway(self) -> None:
        """Start the gateway again, after it has ended."""
        self.system.processes.remove(self.gateway)
        self.gateway = self.start_gateway()

    def log_of(self, process: Any) -> str:
        """What a process has logged."""
        text = Path(process.log).read_text(errors="replace") if Path(process.log).exists() else ""
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def enroll(self, capacity: int | None = None) -> str:
        """Enroll a crawler that comes over TCP; returns its secret."""
        secret, id_ = new_secret(), str(ULID())
        self.system.rows(
            "INSERT INTO crawler_credential (id, name, secret_hash, capacity) VALUES (%s, %s, %s, %s)",
            id_, f"crawlers-{id_}", hash_of(secret), capacity,
        )  # fmt: skip
        return secret

    def stranger(self, **hello: Any) -> Crawler:
        """A crawler that comes over TCP."""
        return Crawler(("127.0.0.1", self.port), f"crawler-{ULID()}", **hello)

    def crawler(self, name: str = "", **hello: Any) -> Crawler:
        """A crawler that is not connected yet; its name is not another one's."""
        return Crawler(self.socket, name or f"crawler-{ULID()}", **hello)

    def submit(self, command: str = "project", **order: Any) -> str:
        """Let the web app order one job; returns its id."""
        job = str(ULID())
        self.system.publish(
            "jobs.submit",
            orders=[
                {
                    "account_id": "acc",
                    "provider": "gitlab-cloud",
                    "gitlab_host": "gitlab.example.org",
                    "command": command,
                    "namespace_path": f"group/project-{ULID()}",
                    "web_app_job_id": job,
                }
                | order
            ],
        )
        return job

    def job(self, id_: str) -> str:
        """The status of a job."""
        return str(self.system.one("SELECT status FROM job WHERE id = %s", id_))

    def becomes(self, job: str, status: str) -> bool:
        """Wait until a job has this status."""
        wait_until(lambda: self.job(job) == status, f"{job} is {status}; it is {self.job(job)}")
        return True

    def losses(self, *jobs: str) -> int:
        """How many attempts of jobs were lost."""
        lost = "SELECT count(*) FROM job_error_log WHERE job_id = ANY (%s) AND error_type = 'ConnectionLost'"
        return int(self.system.one(lost, list(jobs)))

    def loses(self, crawler: Crawler) -> bool:
        """Wait until it is known that a crawler's link was lost."""
        return bool(wait_until(lambda: self.connection(crawler.connection_id)["lost_at"], "the link is lost"))

    def ends_cleanly(self, crawler: Crawler) -> bool:
        """Wait until it is known that a crawler said goodbye."""
        return bool(wait_until(lambda: self.connection(crawler.connection_id)["goodbye_at"], "it has left"))

    def connection(self, id_: str) -> dict[str, Any]:
        """The row of a connection."""
        return dict(self.system.one("SELECT to_jsonb(c) FROM socket_connection c WHERE id = %s", id_))
