"""A small complete system: a database, a Redis, workers and beats. Several can run at once."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from console.demo.processes import Child
from support.processes.forks import Forked
from support.processes.workers import envelope, wait_until
from support.worlds.world import EMPTY
from tasks.routes import queue_of

Process = Child | Forked

_LOGS = """
    CREATE TABLE sweep_log (as_of timestamptz, grace_until timestamptz, swept_at timestamptz, xid xid8);
    CREATE TABLE end_log (connection_id text, last_heartbeat timestamptz, ended_at timestamptz, xid xid8);
    CREATE FUNCTION log_sweep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO sweep_log VALUES (NEW.last_sweep_at, NEW.grace_until, clock_timestamp(), pg_current_xact_id());
        RETURN NULL;
    END $$;
    CREATE FUNCTION log_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO end_log VALUES (NEW.id, NEW.last_heartbeat, clock_timestamp(), pg_current_xact_id());
        RETURN NULL;
    END $$;
    CREATE TRIGGER log_sweep AFTER UPDATE ON liveness_state FOR EACH ROW EXECUTE FUNCTION log_sweep();
    CREATE TRIGGER log_end AFTER UPDATE OF is_active ON socket_connection
       FOR EACH ROW WHEN (OLD.is_active AND NOT NEW.is_active) EXECUTE FUNCTION log_end();
"""
"""The tests' own tables: the as_of of each sweep, and the connections that it closed."""


@dataclass
class MiniSystem:
    """The parts of the system. Use it from one thread."""

    name: str
    database_url: str
    broker_url: str
    folder: Path
    settings: Mapping[str, str]
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = redis.Redis.from_url(self.broker_url)
        self.broker.flushdb()
        self._session = psycopg.connect(self.database_url, autocommit=True)
        self.rows(EMPTY)
        self.rows(_LOGS)
        self.rows("INSERT INTO account (id) VALUES ('acc')")

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Run one statement and commit it, in a new session if the server was away."""
        try:
            result = self._session.execute(sql, values or None)
        except psycopg.OperationalError:
            self._session.close()
            self._session = psycopg.connect(self.database_url, autocommit=True)
            result = self._session.execute(sql, values or None)
        return result.fetchall() if result.description else []

    def one(self, sql: str, *values: Any) -> Any:
        """The single value of a statement."""
        ((value,),) = self.rows(sql, *values)
        return value

    def start(self, command: str, *, forked: bool = False, **environment: str) -> Process:
        """
        Start `crawlyard COMMAND` on this system, as a new interpreter if it has an *environment* of its own, unless
        that is to be *forked* too.
        """
        urls = {"DATABASE_URL": self.database_url, "BROKER_URL": self.broker_url}
        name = f"{self.name}-{len(self.processes)}-{command.partition(' ')[0]}"
        variables = {**self.settings, **urls, **environment}
        process: Process
        if environment and not forked:
            process = Child(name, command.split(), variables, self.folder)
        else:
            log = self.folder / f"{name}.log"
            process = Forked("console.main", command.split(), {**os.environ, **variables}, log)
        self.processes.append(process)
        return process

    def stop(self, *processes: Process) -> None:
        """Stop processes, and wait until they have ended."""
        for process in processes:
            process.request_stop()
        for process in processes:
            if isinstance(process, Forked):
                process.close()
            else:
                process.wait()
            self.processes.remove(process)

    def publish(self, task: str, **payload: Any) -> None:
        """Publish a message as a bare producer does."""
        self.publish_many(task, [payload])

    def publish_many(self, task: str, payloads: list[dict[str, Any]]) -> None:
        """Publish one message per payload, all at once."""
        self.broker.lpush(queue_of(task), *(json.dumps(envelope(task, payload)) for payload in payloads))

    def is_swept(self) -> None:
        """Wait for a sweep whose as_of is later than now."""
        now = self.one("SELECT clock_timestamp()")
        swept = "SELECT COALESCE(last_sweep_at > %s, false) FROM liveness_state"
        wait_until(lambda: self.one(swept, now), f"{self.name}: a sweep", patience=240)

    def is_well(self) -> None:
        """Wait until sweeps run, and end the grace period of the first one."""
        self.is_swept()
        self.rows("UPDATE liveness_state SET grace_until = clock_timestamp()")
        self.is_swept()
        self.rows("DELETE FROM sweep_log")

    def has_gone_on(self, seconds: float) -> None:
        """Wait for a sweep whose as_of is so much later than now, by the database's clock."""
        until_then = self.one("SELECT clock_timestamp() + make_interval(secs => %s)", seconds)
        swept = "SELECT COALESCE(last_sweep_at > %s, false) FROM liveness_state"
        wait_until(
            lambda: self.one(swept, until_then), f"{self.name}: {seconds} s more", patience=60 + 2 * seconds
        )

    def end(self) -> None:
        """Stop everything that still runs."""
        try:
            self.stop(*self.processes)
            self.broker.flushdb()
        finally:
            self.broker.close()
            self._session.close()
