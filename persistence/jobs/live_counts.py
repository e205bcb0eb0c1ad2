"""
How many attempts of each host queue (account, host) are live: counted as attempts begin and end.

Counting the attempts themselves would read every live attempt in each round, and under a snapshot that stays open
every attempt since. A transaction adds its changes to rows of its own backend, in its last statement, so that
workers hardly ever wait for each other; the count of a host queue is the sum of its rows.
"""

from collections import Counter

from sqlalchemy.orm import Session

from persistence.schema.sql import fragment, sql

HostQueueKey = tuple[str, str]

_SHARDS = 16

_ADD = sql(
    """
    INSERT INTO live_count (account_id, host, shard, live)
    SELECT account_id, host, pg_backend_pid() % $shards, change
      FROM unnest(CAST(:accounts AS text[]), CAST(:hosts AS text[]), CAST(:changes AS int[]))
           AS changed(account_id, host, change)
     ORDER BY account_id COLLATE "C", host COLLATE "C"
    ON CONFLICT (account_id, host, shard) DO UPDATE SET live = live_count.live + EXCLUDED.live
    """,
    shards=str(_SHARDS),
)

_BY_HOST_QUEUE = sql("SELECT account_id, host, sum(live) FROM live_count GROUP BY account_id, host")

MISCOUNTED = fragment("""
    SELECT account_id, host, COALESCE(truth.live, 0) - COALESCE(counted.live, 0) AS missing
      FROM (SELECT COALESCE(account_id, '') AS account_id, host, count(*) AS live
              FROM job_assignment_mapping WHERE $live GROUP BY 1, 2) truth
      FULL JOIN (SELECT account_id, host, sum(live) AS live FROM live_count GROUP BY 1, 2) counted
           USING (account_id, host)
     WHERE COALESCE(truth.live, 0) <> COALESCE(counted.live, 0)
""")
"""Host queues whose count is wrong. One snapshot sees an attempt and its count, or neither."""

_RECOUNT = sql(
    """
    INSERT INTO live_count (account_id, host, shard, live)
    SELECT account_id, host, pg_backend_pid() % $shards, missing FROM ($miscounted) miscounted
     ORDER BY account_id COLLATE "C", host COLLATE "C"
    ON CONFLICT (account_id, host, shard) DO UPDATE SET live = live_count.live + EXCLUDED.live
    """,
    shards=str(_SHARDS),
    miscounted=MISCOUNTED,
)

_DELETE_EMPTY = sql("""
    DELETE FROM live_count WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM live_count WHERE live = 0 LIMIT :limit FOR UPDATE SKIP LOCKED)) AND live = 0
""")


class LiveCounts:
    """The table `live_count`, and the changes that this unit of work will make in it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changes: list[tuple[HostQueueKey, int]] = []

    def record(self, account_id: str | None, host: str, change: int) -> None:
        """Count an attempt that began (1) or ended (-1) in a host queue; written with the commit."""
        self._changes.append(((account_id or "", host), change))

    def write(self) -> None:
        """Write the recorded changes."""
        totals: Counter[HostQueueKey] = Counter()
        for key, change in self._changes:
            totals[key] += change
        self._changes.clear()
        changed = {key: total for key, total in totals.items() if total}
        if changed:
            accounts, hosts = zip(*changed, strict=True)
            values = {"accounts": [*accounts], "hosts": [*hosts], "changes": [*changed.values()]}
            self._session.execute(_ADD, values)

    def mark(self) -> int:
        """The number of recorded changes, for `reset`."""
        return len(self._changes)

    def reset(self, mark: int) -> None:
        """Drop the changes that were recorded since *mark*."""
        del self._changes[mark:]

    def by_host_queue(self) -> dict[HostQueueKey, int]:
        """How many live attempts each host queue has."""
        return {(account_id, host): live for account_id, host, live in self._session.execute(_BY_HOST_QUEUE)}

    def recount(self) -> None:
        """Correct the wrong counts, for instance after the web app deleted a job that was being worked on."""
        self._session.execute(_RECOUNT)

    def delete_empty(self, limit: int) -> None:
        """Delete at most *limit* rows that count nothing."""
        self._session.execute(_DELETE_EMPTY, {"limit": limit})
