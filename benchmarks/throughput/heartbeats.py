"""
The line `heartbeats`: heartbeats of 10,000 connections per second, in batches and one by one.

Batches of 500 are compared with the same statement and the same batches, executed in one session with a commit
each. One heartbeat per message is compared with a Celery task that does nothing, with as many pool processes and
the same producer. Both are timed from the push of all messages to empty queues. In each round every connection
must be updated, and 99 % of all updates must be HOT.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, islice, repeat
from typing import Any
from uuid import uuid4

import psycopg
from sqlalchemy.dialects.postgresql import psycopg as dialect

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.drain import emptied_at, seconds_to_handle
from benchmarks.harness.figures import Aim, Comparison, Figure
from benchmarks.harness.messages import envelope
from benchmarks.peers.processes import programs
from console.embedded.servers import Services
from persistence.fleet import connections
from persistence.fleet.connections import Beat
from persistence.schema.ids import ConnectionId
from persistence.settings import settings

ROUNDS = 3
CONNECTIONS, BATCH = 10_000, 500

BATCHES = 350
"""Per round; including the bare statement, all rounds have more than a million heartbeats."""

SINGLES = 2500

_BARE, _BATCHED = "heartbeats in the bare statement", f"heartbeats, {BATCH} per message"
_NOOP, _SINGLE = "messages to a Celery task that does nothing", "heartbeats, one per message"

_QUEUE = "celery"
"""Celery's default queue."""

_IDS = "SELECT id FROM socket_connection ORDER BY id"

_HEARD_SINCE = "SELECT count(*) FROM socket_connection WHERE last_heartbeat > %s"

_UPDATES = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'socket_connection'"


def measure(services: Services) -> Iterator[Figure]:
    """Rates, and the share of HOT updates; the four take turns in each round."""
    rates: dict[str, list[float]] = {name: [] for name in (_BARE, _BATCHED, _NOOP, _SINGLE)}
    with bed(services) as there:
        Depth(there, "0").connect(CONNECTIONS)
        ids = [id_ for (id_,) in there.rows(_IDS)]
        with there.workers(), programs(there, "celery", "work"):
            _noop(there, ids[:100])
            for _ in range(ROUNDS):
                rates[_BARE].append(_bare(there, ids))
                rates[_BATCHED].append(_batched(there, ids))
                rates[_NOOP].append(_noop(there, ids[:SINGLES]))
                rates[_SINGLE].append(_single(there, ids[:SINGLES]))
        hot = _hot_share(there)  # after the workers' sessions have ended and reported their counts
    yield Figure(_BARE, "/s", rates[_BARE])
    yield Figure(_BATCHED, "/s", rates[_BATCHED], (Comparison(_BARE, Aim(0.5)),), aim=Aim(50_000))
    yield Figure(_NOOP, "/s", rates[_NOOP])
    yield Figure(_SINGLE, "/s", rates[_SINGLE], (Comparison(_NOOP, Aim(0.8)),))
    yield Figure("HOT share of updates", "", [hot], aim=Aim(0.99))


def _batches(ids: list[str]) -> list[list[dict[str, Any]]]:
    beats = [_beat(id_) for id_ in ids]
    turns = chain.from_iterable(repeat(beats))
    return [list(islice(turns, BATCH)) for _ in range(BATCHES)]


def _beat(id_: str) -> dict[str, Any]:
    return {"connection_id": id_, "system_status": "crawling", "active_jobs": 3}


def _batched(there: Bed, ids: list[str]) -> float:
    began = there.one("SELECT clock_timestamp()")
    seconds = seconds_to_handle(there, "connections.heartbeat", ({"beats": b} for b in _batches(ids)))
    _check(there, began, len(ids))
    return BATCHES * BATCH / seconds


def _bare(there: Bed, ids: list[str]) -> float:
    statement = str(connections._RECORD_HEARTBEATS.compile(dialect=dialect.dialect()))  # noqa: SLF001 - the very one
    values = [
        {
            "ids": [beat["connection_id"] for beat in b],
            "beats": _rows(b),
            "step": settings().heartbeat_resolution,
        }
        for b in _batches(ids)
    ]
    with psycopg.connect(there.database_url, autocommit=True, prepare_threshold=None) as session:
        begun = time.perf_counter()
        for value in values:
            session.execute(statement, value)
        return BATCHES * BATCH / (time.perf_counter() - begun)


def _rows(batch: list[dict[str, Any]]) -> str:
    return json.dumps(
        [
            asdict(Beat(ConnectionId(beat["connection_id"]), beat["system_status"], beat["active_jobs"]))
            for beat in batch
        ]
    )


def _single(there: Bed, ids: list[str]) -> float:
    began = there.one("SELECT clock_timestamp()")
    seconds = seconds_to_handle(there, "connections.heartbeat", ({"beats": [_beat(id_)]} for id_ in ids))
    _check(there, began, len(ids))
    return len(ids) / seconds


def _noop(there: Bed, ids: list[str]) -> float:
    texts = [envelope("noop", str(uuid4()), _QUEUE, {"beats": [_beat(id_)]}) for id_ in ids]
    there.broker.lpush(_QUEUE, *texts)
    begun = time.perf_counter()
    waiting = lambda: there.broker.llen(_QUEUE) + there.broker.hlen("unacked")  # noqa: E731
    return len(ids) / (emptied_at(waiting) - begun)


def _check(there: Bed, began: Any, wanted: int) -> None:
    if (accepted := there.one(_HEARD_SINCE, began)) < wanted:
        raise RuntimeError(f"{accepted} connections were updated, and {wanted} sent heartbeats")


def _hot_share(there: Bed) -> float:
    ((updates, hot),) = there.rows(_UPDATES)
    if updates < ROUNDS * (2 * BATCHES * BATCH + SINGLES):
        raise RuntimeError(f"only {updates} updates were counted")
    return hot / updates  # type: ignore[no-any-return]
