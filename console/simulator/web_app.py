"""
A simulated web app: has users and accounts, orders jobs by message and by INSERT, and cancels a few.

It does what the dispatcher requires of a submitter: it publishes an order until its job exists, and a
jobs.enqueue until its jobs are queued. It records everything in the order log before it publishes it.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol

import psycopg
import redis
from kombu.exceptions import OperationalError
from ulid import ULID

from console.simulator.background import Background
from console.simulator.gitlab import GitLab
from console.simulator.order_log import OrderLog
from console.simulator.projects import GroupTree, Target, by_first_group, targets

ACCOUNTS = 8
HOSTS = ("https://gitlab.example.org", "https://git.example.net")
_STEP_SECONDS = 0.02
_REPEAT_SECONDS = 1.0
_QUIET_SECONDS = 0.5
_EVERY_TENTH = 10

_UNKNOWN = "SELECT id FROM unnest(%s::text[]) id WHERE id NOT IN (SELECT id FROM job WHERE id = ANY (%s))"
_UNQUEUED = """
    SELECT job.id FROM job LEFT JOIN job_queue entry ON entry.web_app_job_id = job.id
     WHERE job.id = ANY (%s) AND job.status = 'queued' AND entry.id IS NULL
"""
_INSERT_AREA = """
    INSERT INTO area (full_path, gitlab_id, name, type) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_AUTHORIZE = 'INSERT INTO area_authorization ("accountId", area_id) VALUES (%s, %s) ON CONFLICT DO NOTHING'
_INSERT_JOB = """
    INSERT INTO job (id, command, full_path, "accountId", "userId", provider, "gitlabGraphQLUrl", "updatedAt")
    VALUES (%s, %s, %s, %s, %s, 'gitlab-onprem', %s, now()) ON CONFLICT DO NOTHING
"""
_LINK_AREA = 'INSERT INTO job_area ("jobId", full_path) VALUES (%s, %s) ON CONFLICT DO NOTHING'
_NOT_ENDED = "SELECT id FROM job WHERE id = ANY (%s) AND status IN ('queued', 'running') ORDER BY status, id"
_CANCEL = """
    UPDATE job SET status = 'cancelled', finished_at = now(), "updatedAt" = now()
     WHERE id = ANY (%s) AND status IN ('queued', 'running') RETURNING id
"""

PUBLISH_ERRORS = (OperationalError, redis.RedisError, OSError)
"""What clients raise if the broker is down; any other exception is a bug."""


class Publisher(Protocol):
    """Publishes tasks by name."""

    def publish(self, task: str, payload: dict[str, Any], /) -> object:
        """Publish a task, or raise one of PUBLISH_ERRORS within seconds."""


@dataclass(frozen=True)
class WebAppOptions:
    """How many jobs are ordered, and over how many seconds."""

    jobs: int
    seed: int
    seconds: float
    group_tree: GroupTree
    """What the discovery will find."""
    gitlab: GitLab
    """The instance of the discovering account, whose token will expire."""
    discovers_at: float = 0.0
    """When the discovery is ordered, in seconds from the start."""


@dataclass(frozen=True)
class Account:
    """A user's access to a GitLab instance."""

    id: str
    user_id: str
    host: str


@dataclass(frozen=True)
class PlannedJob:
    """A job that the web app is going to order."""

    id: str
    account: Account
    target: Target
    priority: int

    def order(self) -> dict[str, Any]:
        """Return the job as an order of jobs.submit."""
        target = self.target
        job_type = {"group": "crawl_group", "project": "crawl_project"}.get(target.command)
        kind = {"job_type": job_type} if job_type else {"command": target.command}
        return kind | {
            "account_id": self.account.id,
            "user_id": self.account.user_id,
            "provider": "gitlab-onprem",
            "entity_id": target.gitlab_id,
            "namespace_path": target.full_path,
            "gitlab_host": self.account.host,
            "priority": self.priority,
            "web_app_job_id": self.id,
        }


class WebApp(Background):
    """Runs in a thread from `__enter__` to `__exit__`; `check` raises the exception of the thread."""

    def __init__(self, options: WebAppOptions, publisher: Publisher, database_url: str) -> None:
        super().__init__("web app")
        self.order_log = OrderLog()
        self._publisher = publisher
        self._database_url = database_url
        self._rng = random.Random(f"{options.seed} web app")  # noqa: S311 - a simulation
        self._gitlab = options.gitlab
        self._accounts = [self._account(n) for n in range(ACCOUNTS)]
        self._discovering_account = Account(str(ULID()), str(ULID()), options.gitlab.url)
        self.order_log.tokens = options.gitlab.issued
        self.order_log.discovered = options.group_tree.jobs()
        self._group_tree = options.group_tree
        self._tokens = [f"glpat-{self._rng.randbytes(10).hex()}" for _ in self._accounts]
        self._plan = deque(sorted(self._planned(options), key=lambda step: step[0]))
        self._unanswered: dict[str, dict[str, Any]] = {}
        self._unqueued: set[str] = set()
        self._next_repeat = 0.0

    @property
    def is_done(self) -> bool:
        """True if everything was ordered, and every order has had its effect."""
        return not self._plan and not self._unanswered and not self._unqueued

    # Plan

    def _account(self, number: int) -> Account:
        return Account(str(ULID()), str(ULID()), HOSTS[number % len(HOSTS)])

    def _planned(self, options: WebAppOptions) -> Iterable[tuple[float, Callable[[], None]]]:
        """Plan the steps, each with its time in seconds from the start."""
        yield options.discovers_at, self._discover
        jobs = self._planned_jobs(options.jobs - 1)
        size = max(len(jobs) // 40, 1)
        batches = [jobs[n : n + size] for n in range(0, len(jobs), size)]
        pause = options.seconds / len(batches)
        for n, batch in enumerate(batches):
            yield n * pause, self._step(self._submit if n % 2 else self._insert, batch)
            if n in (len(batches) // 3, len(batches) * 2 // 3):
                yield n * pause, self._cancel_some

    def _step(self, how: Callable[[list[PlannedJob]], None], batch: list[PlannedJob]) -> Callable[[], None]:
        return lambda: how(batch)

    def _planned_jobs(self, count: int) -> list[PlannedJob]:
        """Give each large group an account; all others share the first account, which has about half of the jobs."""
        groups = by_first_group(targets(self._rng, count, without=self._group_tree.root))
        jobs = [
            PlannedJob(
                str(ULID()),
                self._accounts[n if n < ACCOUNTS else 0],
                target,
                self._rng.choice((1, 1, 1, 5)),
            )
            for n, group in enumerate(groups, start=1)
            for target in group
        ]
        self._rng.shuffle(jobs)
        return jobs

    # Actions

    def _run_loop(self) -> None:
        with self._connect() as connection:
            self._insert_accounts(connection)
        self._work()

    def _insert_accounts(self, connection: psycopg.Connection) -> None:
        self.order_log.tokens += self._tokens
        pairs = [(token, None) for token in self._tokens] + [self._gitlab.authorize()]
        for number, (account, pair) in enumerate(
            zip([*self._accounts, self._discovering_account], pairs, strict=True), start=1
        ):
            connection.execute(
                'INSERT INTO "user" (id, name, email) VALUES (%s, %s, %s)',
                [account.user_id, f"Reader {number}", f"reader{number}@example.org"],
            )
            connection.execute(
                "INSERT INTO account (id, account_id, provider_id, user_id, access_token, refresh_token)"
                " VALUES (%s, %s, 'gitlab-onprem', %s, %s, %s)",
                [account.id, str(number), account.user_id, *pair],
            )

    def _work(self) -> None:
        begun = time.monotonic()
        while not self._stop.wait(_STEP_SECONDS):
            try:
                while self._plan and self._plan[0][0] <= time.monotonic() - begun and not self._stop.is_set():
                    self._plan[0][1]()
                    self._plan.popleft()
                self._repeat()
            except psycopg.OperationalError:
                self._stop.wait(_QUIET_SECONDS)  # then repeat the step; all steps are idempotent

    def _discover(self) -> None:
        """Order a discovery of everything that one account may read."""
        self.order_log.discovery = self.order_log.discovery or str(ULID())
        order = {
            "account_id": self._discovering_account.id,
            "user_id": self._discovering_account.user_id,
            "provider": "gitlab-onprem",
            "job_type": "discover_namespaces",
            "gitlab_host": self._discovering_account.host,
            "web_app_job_id": self.order_log.discovery,
        }
        self.order_log.submitted.add(self.order_log.discovery)
        self._unanswered[self.order_log.discovery] = order
        self._publish("jobs.submit", orders=[order])

    def _submit(self, batch: list[PlannedJob]) -> None:
        """Order by message; publish every tenth message twice, as if the first had been lost."""
        self.order_log.submitted.update(job.id for job in batch)
        orders = [job.order() for job in batch]
        self._unanswered.update({order["web_app_job_id"]: order for order in orders})
        self._publish("jobs.submit", orders=orders)
        if len(self.order_log.submitted) // len(batch) % _EVERY_TENTH == 0:
            self.order_log.repeated += len(orders)
            self._publish("jobs.submit", orders=orders)

    def _insert(self, batch: list[PlannedJob]) -> None:
        """Insert the rows in a transaction of the web app's own, then publish."""
        self.order_log.inserted.update(job.id for job in batch)
        with (
            self._connect() as connection,
            connection.cursor() as cursor,
        ):
            cursor.executemany(_INSERT_AREA, [_area(job.target) for job in batch])
            cursor.executemany(_AUTHORIZE, [(job.account.id, job.target.full_path) for job in batch])
            cursor.executemany(_INSERT_JOB, [_row(job) for job in batch])
            cursor.executemany(_LINK_AREA, [(job.id, job.target.full_path) for job in batch])
        self._unqueued.update(job.id for job in batch)
        self._publish("jobs.enqueue", job_ids=[job.id for job in batch])

    def _cancel_some(self) -> None:
        """Cancel one job in a hundred by message and, the first time, one queued and one running job by UPDATE."""
        open_ids = self._ids(_NOT_ENDED, list(self.order_log.ordered - {self.order_log.discovery}))
        self._rng.shuffle(middle := open_ids[1:-1])
        cancelled = middle[: len(self.order_log.ordered) // 100 + 1]
        updated = [*open_ids[:1], *open_ids[-1:]] if not self.order_log.cancelled_by_update else []
        # Recorded first: an UPDATE whose COMMIT got no answer may have been committed.
        self.order_log.asked_to_cancel.update(cancelled, updated)
        self.order_log.cancelled_by_update.update(self._ids(_CANCEL, updated))
        if cancelled:
            self._publish("jobs.cancel", job_ids=cancelled, reason="no longer wanted")

    def _repeat(self) -> None:
        """Publish again what has had no effect yet."""
        if time.monotonic() < self._next_repeat or not (self._unanswered or self._unqueued):
            return
        self._next_repeat = time.monotonic() + _REPEAT_SECONDS
        unknown = self._ids(_UNKNOWN, list(self._unanswered), list(self._unanswered))
        self._unanswered = {id_: self._unanswered[id_] for id_ in unknown}
        self._unqueued = set(self._ids(_UNQUEUED, list(self._unqueued)))
        self.order_log.repeated += len(self._unanswered) + len(self._unqueued)
        if self._unanswered:
            self._publish("jobs.submit", orders=list(self._unanswered.values()))
        if self._unqueued:
            self._publish("jobs.enqueue", job_ids=sorted(self._unqueued))

    def _connect(self) -> psycopg.Connection:
        """Open a connection without prepared statements, which a pooler might not support."""
        return psycopg.connect(self._database_url, connect_timeout=2, prepare_threshold=None)

    def _ids(self, statement: LiteralString, *values: list[str]) -> list[str]:
        with self._connect() as connection:
            return [id_ for (id_,) in connection.execute(statement, values)]

    def _publish(self, task: str, **arguments: Any) -> None:
        try:
            self._publisher.publish(task, arguments)
        except PUBLISH_ERRORS:
            self._stop.wait(_QUIET_SECONDS)  # it is published again, or reconcile finds the jobs


def _area(target: Target) -> tuple[str, str, str, str]:
    return target.full_path, target.gitlab_id, target.full_path.rpartition("/")[2], target.kind


def _row(job: PlannedJob) -> tuple[str, str, str, str, str, str]:
    account, target = job.account, job.target
    url = f"{account.host}/api/graphql"
    return job.id, target.command, target.full_path, account.id, account.user_id, url
