"""
The line `one_at_a_time`: the lives of `bare_sql.py`, one job at a time, by pgbench: the limit without batches.

It uses prepared statements, as many sessions as make it faster, and no interpreter. Each phase is a transaction:
submit, claim and assign, start, progress, complete. As with the peers, there are no notifications.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.figures import Figure
from benchmarks.harness.world import add_accounts, add_crawlers, orders
from benchmarks.throughput import bare_sql
from benchmarks.throughput import statements as sql
from console.embedded.postgres import wheel_binaries
from console.embedded.servers import Services

FIGURE = "lives in bare SQL, one at a time"

ROUNDS = 3
LIVES = 3_200
"""Per round."""
DEPTH = 10_000

_ACCOUNTS = 50
_CRAWLERS, _CAPACITY = 100, 50

_SESSIONS = 32

_JOBS, _OWNERS, _CONNECTIONS = (
    "ARRAY[:web_app_job_id]",
    "ARRAY[:account_id]",
    "ARRAY[(:connections::text[])[1 + :new % 100]]",
)
"""The first two are what `CLAIM` returned; the third is one of the crawlers in turn."""
_NEW, _PATHS, _NEW_OWNERS = "ARRAY[:new::text]", "ARRAY['pgbench/' || :new]", "ARRAY['account-' || :n % 50]"
_FENCES = _JOBS
_NO_CONNECTION = "ARRAY[NULL]"

_ENDED = """
    SELECT count(*) FROM job JOIN job_assignment_mapping a ON a.web_app_job_id = job.id
     WHERE job.status = 'finished' AND a.status = 'completed'
"""


def measure(services: Services) -> Iterator[Figure]:
    """One figure, in lives per second."""
    with bed(services) as there:
        accounts = add_accounts(there, _ACCOUNTS)
        crawlers = add_crawlers(there, _CRAWLERS, _CAPACITY)
        with psycopg.connect(there.database_url) as session:
            bare_sql.fill(session, orders(accounts), DEPTH)
        yield Figure(FIGURE, "/s", [_round(there, crawlers, number) for number in range(ROUNDS)])


def _round(there: Bed, crawlers: list[str], number: int) -> float:
    before = there.one(_ENDED)
    answer = _pgbench(there, {**_values(crawlers), "n": f"{number}000000"})
    if (ended := there.one(_ENDED) - before) != LIVES:
        raise RuntimeError(f"{ended} lives have ended in the tables, and {LIVES} were driven")
    (rate,) = re.findall(r"tps = ([0-9.]+)", answer)
    return float(rate)


def _pgbench(there: Bed, values: dict[str, str]) -> str:
    script = Path(there.services.folder) / "life.sql"
    script.write_text(_script())
    where = {f"PG{key.upper()}": str(value) for key, value in conninfo_to_dict(there.database_url).items()}
    where["PGDATABASE"] = where.pop("PGDBNAME")
    options = ["--no-vacuum", "--protocol=prepared", f"--client={_SESSIONS}", "--jobs=2"]
    command = [str(wheel_binaries() / "pgbench"), *options, f"--transactions={LIVES // _SESSIONS}"]
    defined = [f"--define={name}={value}" for name, value in values.items()]
    done = subprocess.run(
        [*command, *defined, f"--file={script}"],
        env=os.environ | where,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"pgbench: {done.stderr}")
    return done.stdout


def _values(crawlers: list[str]) -> dict[str, str]:
    """Return the parameters that all lives share; the texts are as long as Crawlyard's."""
    return {
        "connections": "{" + ",".join(crawlers) + "}",
        "started": sql.progress("0" * 26, "started"),
        "quarter": sql.progress("0" * 26, "started", "25%"),
        "whole": sql.progress("0" * 26, "started", "25%", "completed"),
    }


def _script() -> str:
    """Return the script of one life."""
    lines = [
        r"\set n :n + 1",
        r"\set new :client_id * 10000003 + :n",
        _one(
            (sql.INSERT_JOBS, _NEW, _PATHS, _NEW_OWNERS),
            (sql.INSERT_ENTRIES, "'{}'", _NEW, _PATHS, _NEW_OWNERS),
            _event("job_created", _NEW, _NEW_OWNERS),
        ),
        "BEGIN;",
        rf"{_filled(sql.CLAIM, '1')} \gset",
        _one(
            (sql.PROCESS, _JOBS),
            (sql.ASSIGN, _FENCES, _JOBS, _CONNECTIONS, _OWNERS),
            _event("job_assigned", _JOBS, _OWNERS, _CONNECTIONS),
        ),
        _one((sql.UPDATE_CONNECTIONS, _CONNECTIONS)),
        "COMMIT;",
        _one(
            (sql.BEAT, _CONNECTIONS),
            (sql.RUN, _FENCES),
            (sql.START, ":started", _JOBS),
            _event("job_updated", _JOBS, _OWNERS),
        ),
        _one(
            (sql.BEAT, _CONNECTIONS),
            (sql.RUN, _FENCES),
            (sql.PROGRESS, ":quarter", "'{}'", _JOBS),
            _event("progress_updated", _JOBS, _OWNERS, _CONNECTIONS),
        ),
        "BEGIN;",
        _one(
            (sql.BEAT, _CONNECTIONS),
            (sql.CLOSE, _FENCES),
            (sql.COMPLETE, _JOBS),
            (sql.FINISH, ":whole", _JOBS),
            _event("progress_updated", _JOBS, _OWNERS, _CONNECTIONS),
            _event("job_updated", _JOBS, _OWNERS),
        ),
        _one((sql.UPDATE_CONNECTIONS, _CONNECTIONS)),
        "COMMIT;",
    ]
    return "\n".join(lines)


def _event(kind: str, jobs: str, owners: str, connections: str = _NO_CONNECTION) -> tuple[str, ...]:
    return sql.EVENTS, f"'{kind}'", "'{\"completion\": 0.2}'", jobs, owners, connections


def _one(*steps: tuple[str, ...]) -> str:
    """Combine steps into one statement, which is one transaction."""
    return sql.as_one(*(_filled(statement, *values) for statement, *values in steps)) + ";"


def _filled(statement: str, *values: str) -> str:
    rest = iter(values)
    return " ".join(re.sub("%s", lambda _: next(rest), statement).split())
