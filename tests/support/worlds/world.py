"""A web app and its crawlers for tests: short methods for what they do."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from threading import Thread
from typing import Any

from sqlalchemy import text
from ulid import ULID

from persistence.db.engine import engine
from persistence.fleet.silence import GOODBYE_MARGIN
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from support.processes.workers import wait_until
from tasks.runtime.unit import unit_of_work

_AS_MIGRATED = """
        INSERT INTO liveness_state DEFAULT VALUES;
        INSERT INTO adoption DEFAULT VALUES;
        INSERT INTO event_edge DEFAULT VALUES;
"""

FRESH = f"""
    DO $$ BEGIN
        EXECUTE (SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables
                  WHERE schemaname = 'public' AND tablename <> 'crawlyard_version');
        {_AS_MIGRATED}
    END $$
"""
"""Restores the state after the migrations, with empty tables on disk."""

EMPTY = f"""
    DO $$ DECLARE its_name text; is_small boolean; BEGIN
        SET LOCAL session_replication_role = replica;
        FOR its_name, is_small IN
            SELECT oid::regclass, relpages = 0 AND pg_relation_size(oid) <= 16 * 8192 FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'crawlyard_version'
               AND pg_relation_size(oid) > 0
             ORDER BY 2
        LOOP
            IF is_small THEN
                EXECUTE 'DELETE FROM ' || its_name;
            ELSE
                EXECUTE 'TRUNCATE ' || its_name || ' CASCADE';
            END IF;
        END LOOP;
        {_AS_MIGRATED}
    END $$
"""
"""
Restores the state after the migrations. Tables that are large, or that have statistics, are truncated; the others
keep their few pages, since DELETE takes a tenth of the time of TRUNCATE.
"""

NOW = "2026-05-04T03:02:01Z"


@dataclass
class Published:
    """The messages that were published."""

    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def publish(self, task: str, arguments: dict[str, Any]) -> None:
        """Record a message."""
        self.messages.append((task, arguments))

    def of(self, task: str) -> list[dict[str, Any]]:
        """The arguments of all messages for *task*."""
        return [arguments for name, arguments in self.messages if name == task]


@dataclass(frozen=True)
class Crawler:
    """A crawler, by the id of its connection."""

    world: "World"
    id: str

    def orders(self) -> list[str]:
        """The crawler_job_ids of its orders."""
        rows = self.world.rows(
            "SELECT crawler_job_id FROM crawler_order WHERE connection_id = :id ORDER BY 1", id=self.id
        )
        return [crawler_job_id for (crawler_job_id,) in rows]

    def frame(self, kind: str, job: str | None = None, **data: Any) -> dict[str, Any]:
        """A frame with its connection."""
        frame = {"type": kind, "timestamp": NOW, "data": data}
        return {"connection_id": self.id, "frame": frame | ({"jobId": job} if job else {})}

    def sends(self, kind: str, job: str | None = None, **data: Any) -> None:
        """Send one frame."""
        self.world.sends(self.frame(kind, job, **data))

    def fails(self, job: str, *, recoverable: bool = True, **data: Any) -> None:
        """Send job_failed."""
        self.sends("job_failed", job, **{"error": "it broke", "isRecoverable": recoverable, **data})

    def silent_for(self, seconds: float) -> None:
        """Make its last heartbeat this old."""
        self.world.rows(
            "UPDATE socket_connection SET last_heartbeat = clock_timestamp() - make_interval(secs => :s)"
            " WHERE id = :id",
            s=seconds,
            id=self.id,
        )

    def row(self) -> Any:
        """The connection's row."""
        return self.world.row("SELECT * FROM socket_connection WHERE id = :id", id=self.id)


class World:
    """The database, and everyone who changes it."""

    def __init__(self, published: Published) -> None:
        self.published = published
        self.app = import_module("tasks.app").app
        for module_name in import_module("tasks.app").TASK_MODULES:
            import_module(module_name)

    # The database

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """Run one statement and commit it."""
        with engine().begin() as connection:
            result = connection.execute(text(sql), values)
            return list(result) if result.returns_rows else []

    def row(self, sql: str, **values: Any) -> Any:
        """The single row of a statement."""
        (row,) = self.rows(sql, **values)
        return row

    def scalar(self, sql: str, **values: Any) -> Any:
        """The single value of a statement."""
        return self.row(sql, **values)[0]

    def in_one_transaction(self, statements: Iterable[str], **values: Any) -> None:
        """Run statements and commit them together."""
        with engine().begin() as connection:
            for statement in statements:
                connection.execute(text(statement), values)

    def empty(self) -> None:
        """Empty the database, except for the account `acc`."""
        self.rows(EMPTY)
        self.account("acc")

    def now(self) -> datetime:
        """The database's time."""
        return self.scalar("SELECT clock_timestamp()")  # type: ignore[no-any-return]

    @contextmanager
    def unit(self) -> Iterator[UnitOfWork]:
        """A unit of work of the test's own, rolled back unless the test commits it."""
        with unit_of_work() as uow:
            yield uow

    def snapshot(self) -> dict[str, list[Any]]:
        """All rows of all tables about jobs, without timestamps."""
        return {
            table: self.rows(f"SELECT {columns} FROM {table} ORDER BY 1")
            for table, columns in _COMPARED_COLUMNS.items()
        }

    def in_thread(self, action: Callable[[], None]) -> Thread:
        """Run an action in a thread; the test must join it."""
        thread = Thread(target=action)
        thread.start()
        return thread

    def wait_for_lock_waiter(self) -> None:
        """Wait until a session of this database waits for a row lock of another."""
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        waiting = f"{sessions} AND wait_event_type = 'Lock'"
        wait_until(lambda: self.scalar(waiting) > 0, "a session waits for a lock")

    def reload_settings(self) -> None:
        """Read the settings again."""
        settings.cache_clear()

    # The web app

    def account(self, id_: str) -> str:
        """Insert an account with a token that must appear nowhere else."""
        self.rows("INSERT INTO account (id, access_token) VALUES (:id, 'glpat-abcdefghij0123456789')", id=id_)
        return id_

    def bind(self, origin: str, account: str = "acc") -> None:
        """Bind an account to the GitLab with this origin."""
        self.rows(
            "INSERT INTO account_origin (account_id, origin, bound_by) VALUES (:id, :origin, 'operator')"
            " ON CONFLICT (account_id) DO UPDATE SET origin = EXCLUDED.origin",
            id=account,
            origin=origin,
        )

    def order(self, **changes: Any) -> dict[str, Any]:
        """An order for a new project."""
        path = f"group/project-{ULID()}"
        return {
            "account_id": "acc",
            "provider": "gitlab-cloud",
            "gitlab_host": "gitlab.example.org",
            "command": "project",
            "namespace_path": path,
            "web_app_job_id": str(ULID()),
        } | changes

    def submit(self, *orders: dict[str, Any], message: str | None = None) -> list[str]:
        """Submit orders; returns the job ids."""
        self.deliver("jobs.submit", message, orders=list(orders))
        return [order.get("web_app_job_id", "") for order in orders]

    def jobs(self, count: int, **changes: Any) -> list[str]:
        """Submit this many orders; returns the job ids."""
        return self.submit(*(self.order(**changes) for _ in range(count)))

    def insert_job(self, **columns: Any) -> str:
        """Insert a job row as the web app does, without publishing anything."""
        row = {
            "id": str(ULID()),
            "accountId": "acc",
            "command": "project",
            "full_path": f"own/{ULID()}",
        } | columns
        row.setdefault("gitlabGraphQLUrl", "https://gitlab.example.org/api/graphql")
        names = ", ".join(f'"{name}"' for name in row)
        self.rows(f"INSERT INTO job ({names}) VALUES ({', '.join(':' + name for name in row)})", **row)
        return str(row["id"])

    def job(self, id_: str) -> Any:
        """A job's row."""
        return self.row("SELECT * FROM job WHERE id = :id", id=id_)

    def entry(self, job_id: str) -> Any:
        """A job's queue entry."""
        return self.row("SELECT * FROM job_queue WHERE web_app_job_id = :id", id=job_id)

    def attempts(self, job_id: str) -> list[Any]:
        """A job's attempts, oldest first."""
        return self.rows(
            "SELECT * FROM job_assignment_mapping WHERE web_app_job_id = :id ORDER BY assigned_at, id",
            id=job_id,
        )

    def errors(self, job_id: str) -> list[Any]:
        """A job's error rows, oldest first."""
        return self.rows("SELECT * FROM job_error_log WHERE job_id = :id ORDER BY timestamp, id", id=job_id)

    def events(self, kind: str) -> list[Any]:
        """The events of one type, in order."""
        return self.rows("SELECT * FROM dispatch_event WHERE type = :kind ORDER BY xid, id", kind=kind)

    def rejections(self) -> list[tuple[str, str]]:
        """The task and reason of each rejected message."""
        return [tuple(r) for r in self.rows("SELECT task, reason FROM rejected_message ORDER BY id")]

    # Crawlers

    def crawler(self, capacity: int = 5, **changes: Any) -> Crawler:
        """Register a crawler."""
        id_ = str(ULID())
        self.deliver("connections.register", connection_id=id_, capacity=capacity, **changes)
        return Crawler(self, id_)

    def sends(self, *frames: dict[str, Any], message: str | None = None) -> None:
        """Deliver frames in one message."""
        self.deliver("crawler.frames", message, frames=list(frames))

    def crawler_with_jobs(self, jobs: int = 1, **changes: Any) -> tuple[Crawler, list[str]]:
        """A crawler with this many new jobs, and its orders."""
        self.jobs(jobs, **changes)
        crawler = self.crawler(capacity=jobs)
        self.assign()
        return crawler, crawler.orders()

    # Crawlyard

    def deliver(self, task: str, message: str | None = None, /, **payload: Any) -> str:
        """Run a task as the delivery of a message with this id. Returns the state: REJECTED means requeued."""
        result = self.app.tasks[task].apply(kwargs=payload, task_id=message or str(ULID()), throw=True)
        return str(result.state)

    def assign(self) -> None:
        """Run one assignment round."""
        self.deliver("jobs.assign")

    def sweep(self, as_of: datetime | None = None) -> None:
        """
        Run a sweep with all its units, as if sweeps had run in time before: it sees no outage.

        Without *as_of* it judges now, and as if who has disconnected had done so some seconds ago.
        """
        if as_of is None:
            self.rows(
                "UPDATE socket_connection SET goodbye_at = goodbye_at - CAST(:margin AS interval)"
                " WHERE goodbye_at IS NOT NULL",
                margin=GOODBYE_MARGIN,
            )
        as_of = as_of or self.now()
        self.rows(
            "UPDATE liveness_state SET last_sweep_at = CAST(:t AS timestamptz) - interval '1 second',"
            " grace_until = CASE WHEN grace_until > clock_timestamp() THEN clock_timestamp() ELSE grace_until END",
            t=as_of,
        )
        messages = [{"as_of": as_of}]
        while messages:
            self.deliver("connections.expire_dead", **messages.pop())
            messages, self.published.messages = self._continuations(), []

    def _continuations(self) -> list[dict[str, Any]]:
        return self.published.of("connections.expire_dead")


_COMPARED_COLUMNS = {
    "job": "id, status, command, full_path, progress, resume_state, started_at IS NULL, finished_at IS NULL",
    "job_queue": "web_app_job_id, status, attempts, losses, goodbyes, ready, held, error",
    "job_assignment_mapping": "crawler_job_id, web_app_job_id, connection_id, status, stale_words",
    "job_error_log": "id, job_id, error_type, error_message, retry_count",
    "socket_connection": "id, is_active, active_jobs, capacity, reported, reported_jobs, system_status",
    "dispatch_event": "id, type, job_id, connection_id, payload",
    "rejected_message": "id, task, reason, payload",
}
