"""
The same lives in bare SQL, in one session: the limit that the database sets.

It writes the same rows to the same tables in batches of the same size, with a COMMIT per batch, the events and the
notification. It leaves out what Crawlyard is for: fairness, fences, the contract, messages.
"""

import json
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import psycopg
from ulid import ULID

from benchmarks.harness.bed import Bed
from benchmarks.harness.lives import BATCH
from benchmarks.harness.world import HOST, orders
from benchmarks.throughput import statements as sql


def measure(bed: Bed, accounts: list[str], connections: list[str], lives: int, depth: int) -> float:
    """Return the seconds for *lives* lives, with *depth* jobs waiting all the time."""
    rest = orders(accounts, 10_000_000)
    with psycopg.connect(bed.database_url) as session:
        fill(session, rest, depth)
        begun = time.monotonic()
        for _ in range(0, lives, BATCH):
            _submit(session, list(islice(rest, BATCH)))
            _live(session, connections)
        return time.monotonic() - begun


def fill(session: psycopg.Connection[Any], rest: Iterator[dict[str, Any]], depth: int) -> None:
    """Submit *depth* jobs."""
    for _ in range(0, depth, BATCH):
        _submit(session, list(islice(rest, BATCH)))


def _submit(session: psycopg.Connection[Any], batch: list[dict[str, Any]]) -> None:
    ids = [order["web_app_job_id"] for order in batch]
    paths = [order["namespace_path"] for order in batch]
    owners = [order["account_id"] for order in batch]
    session.execute(sql.INSERT_JOBS, [ids, paths, owners])
    session.execute(sql.INSERT_ENTRIES, [json.dumps({"gitlab_host": f"https://{HOST}"}), ids, paths, owners])
    _record(session, "job_created", {"existing": False}, ids, owners)
    session.commit()


def _live(session: psycopg.Connection[Any], connections: list[str]) -> None:
    claimed = session.execute(sql.CLAIM, [BATCH]).fetchall()
    jobs, owners = [job for job, _ in claimed], [owner for _, owner in claimed]
    fences = [str(ULID()) for _ in jobs]
    slots = [connections[n % len(connections)] for n in range(len(jobs))]
    session.execute(sql.PROCESS, [jobs])
    session.execute(sql.ASSIGN, [fences, jobs, slots, owners])
    session.execute(sql.UPDATE_CONNECTIONS, [connections])
    _record(session, "job_assigned", {"crawler_job_id": fences[0]}, jobs, owners, connections=slots)
    session.commit()
    session.execute(sql.BEAT, [connections])
    session.execute(sql.RUN, [fences])
    session.execute(sql.START, [sql.progress(fences[0], "started"), jobs])
    _record(session, "job_updated", {"status": "running"}, jobs, owners)
    session.commit()
    session.execute(sql.BEAT, [connections])
    session.execute(sql.RUN, [fences])
    session.execute(
        sql.PROGRESS, [sql.progress(fences[0], "started", "25%"), json.dumps({"currentPage": 1}), jobs]
    )
    _record(session, "progress_updated", {"completion": 0.2}, jobs, owners, connections=slots)
    session.commit()
    session.execute(sql.BEAT, [connections])
    session.execute(sql.CLOSE, [fences])
    session.execute(sql.COMPLETE, [jobs])
    session.execute(sql.FINISH, [sql.progress(fences[0], "started", "25%", "completed"), jobs])
    session.execute(sql.UPDATE_CONNECTIONS, [connections])
    _record(session, "progress_updated", {"completion": 1.0}, jobs, owners, connections=slots)
    _record(session, "job_updated", {"status": "finished"}, jobs, owners)
    session.commit()


def _record(
    session: psycopg.Connection[Any],
    kind: str,
    payload: dict[str, Any],
    jobs: list[str],
    owners: list[str],
    *,
    connections: list[str] | None = None,
) -> None:
    session.execute(sql.EVENTS, [kind, json.dumps(payload), jobs, owners, connections or [None] * len(jobs)])
    session.execute(sql.NOTIFY)
