"""What a gateway reads costs few pages, whatever is stored, also beside a long transaction or without statistics."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from persistence.orders import attempts, changes, credentials, hand_over, handled, links
from persistence.schema.event_types import FOR_GATEWAYS, OF_ATTEMPTS
from persistence.settings import settings
from support.worlds.world import World

EVENTS = 50_000
CONNECTIONS = 2_000
ORDERS = 5 * CONNECTIONS

_FILL = """
    INSERT INTO socket_connection (id, active_jobs)
    SELECT lpad(c::text, 26, '0'),
           (SELECT jsonb_agg(lpad((5 * c + n)::text, 26, '0')) FROM generate_series(0, 4) n)
      FROM generate_series(1, CAST(:connections AS int)) c;
    INSERT INTO job (id, command, full_path, "accountId", status)
    SELECT lpad(o::text, 26, '0'), 'issues', 'a/' || o, 'acc', 'running'
      FROM generate_series(5, CAST(:orders AS int) + 4) o;
    INSERT INTO job_assignment_mapping (id, crawler_job_id, web_app_job_id, connection_id, account_id, assigned_at)
    SELECT id, id, id, lpad((CAST(id AS int) / 5)::text, 26, '0'), 'acc', now() FROM job;
    INSERT INTO job_queue (id, web_app_job_id, account_id, status)
    SELECT id, id, 'acc', 'processing' FROM job;
    INSERT INTO handled_message (message_id) SELECT lpad(n::text, 26, '0') FROM generate_series(1, 20000) n;
    INSERT INTO crawler_credential (id, name, secret_hash)
    SELECT lpad(n::text, 26, '0'), n, encode(sha256(CAST(CAST(n AS text) AS bytea)), 'hex')
      FROM generate_series(1, 1000) n
"""

_EVENTS = """
    INSERT INTO dispatch_event (type, job_id, account_id, connection_id, payload)
    SELECT CASE n %% 5 WHEN 0 THEN 'job_assigned' ELSE 'progress_updated' END, 'job-' || n, 'acc', 'c-' || n,
           jsonb_build_object('crawler_job_id', lpad(n::text, 26, '0'), 'timestamp', now())
      FROM generate_series(1, %s) n
"""


DESCENDS_ONCE = 170_000
"""From this version on, PostgreSQL goes down an index once for a list of neighbours, not once for each."""


def number(n: int) -> str:
    """The id with this number."""
    return f"{n:026}"


@pytest.fixture(params=[True, False], ids=["analyzed", "never analyzed"])
def session(world: World, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    """A session of a database in which much is stored."""
    world.in_one_transaction(_FILL.split(";"), connections=CONNECTIONS, orders=ORDERS)
    with psycopg.connect(settings().session_url, autocommit=True) as session:
        session.execute(_EVENTS, [EVENTS])
        session.execute("ANALYZE" if request.param else "DELETE FROM pg_statistic")
        yield session


def pages(session: psycopg.Connection[Any], query: str, values: dict[str, Any]) -> tuple[int, int]:
    """The pages that a query reads, cached or not, and its rows."""
    explained = session.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}".encode(), values)
    ((plan,),) = explained.fetchall()
    top = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"], round(top["Actual Rows"])


def difference(previous: str) -> dict[str, Any]:
    """The values of the query for what has changed since a snapshot."""
    return {
        "previous": previous,
        "limit": changes.PAGE_ROWS,
        "types": sorted(FOR_GATEWAYS),
        "of_attempts": sorted(OF_ATTEMPTS),
    }


def snapshot(session: psycopg.Connection[Any]) -> str:
    """The snapshot of now."""
    ((now,),) = session.execute("SELECT CAST(pg_current_snapshot() AS text)").fetchall()
    return str(now)


@contextmanager
def long_transaction(session: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A writer that began before many events of others."""
    with psycopg.connect(settings().session_url) as writer:
        writer.execute(_EVENTS, [10])
        session.execute(_EVENTS, [EVENTS])
        yield writer


@pytest.mark.fresh_tables
def test_changes_cost_what_has_changed(session: psycopg.Connection[Any]) -> None:
    """Not what is stored, nor what was committed since the oldest transaction began."""
    before = snapshot(session)
    nothing, _ = pages(session, changes._DIFFERENCE, difference(before))
    session.execute(_EVENTS, [2500])
    much, rows = pages(session, changes._DIFFERENCE, difference(before))
    assert rows == 2500
    with long_transaction(session) as writer:
        before = snapshot(session)
        session.execute(_EVENTS, [100])
        beside, rows = pages(session, changes._DIFFERENCE, difference(before))
        assert rows == 100
        before = snapshot(session)
        writer.commit()
        late, rows = pages(session, changes._DIFFERENCE, difference(before))
        assert rows == 10

    assert nothing <= 20
    assert much <= 150
    assert beside <= 40
    assert late <= 40


@pytest.mark.fresh_tables
def test_each_lookup_costs_what_it_asks_for(session: psycopg.Connection[Any]) -> None:
    """Not what is stored."""
    ids = [number(n) for n in range(100, 270)]
    hashes = [hash_ for (hash_,) in session.execute("SELECT secret_hash FROM crawler_credential LIMIT 100")]
    fences = {
        "connections": [number(n) for n in range(100, 120)],
        "fences": [number(n) for n in range(500, 600)],
    }
    found = {
        "hand over 100": pages(session, hand_over._OF_FENCES, fences),
        "all of 170": pages(session, hand_over._OF_CONNECTIONS, {"connections": ids}),
        "reconcile 170": pages(session, links._READ, {"ids": ids}),
        "attempts 100": pages(session, attempts._READ, {"fences": fences["fences"]}),
        "handled 170": pages(session, handled._READ, {"ids": ids}),
        "credentials 100": pages(session, credentials._FIND, {"hashes": hashes}),
        "revoked 100": pages(session, credentials._REVOKED, {"ids": ids[:100]}),
    }

    assert {name: rows for name, (_, rows) in found.items()} == {
        "hand over 100": 100,
        "all of 170": 850,
        "reconcile 170": 170,
        "attempts 100": 100,
        "handled 170": 170,
        "credentials 100": 100,
        "revoked 100": 0,
    }
    most = {
        "hand over 100": 1600,
        "all of 170": 10_000,
        "reconcile 170": 200,
        "attempts 100": 50,
        "handled 170": 50,
        "credentials 100": 100,
        "revoked 100": 100,
    }
    if session.info.server_version < DESCENDS_ONCE:
        most |= {"all of 170": 12_000, "reconcile 170": 510, "attempts 100": 300, "handled 170": 510}
    assert {name: cost for name, (cost, _) in found.items() if cost > most[name]} == {}
