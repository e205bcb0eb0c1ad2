"""
How many attempts live in each lane (account, host): counted as they begin and end, instead of looked for.

Looked for, each pass read every live attempt, and under a snapshot that somebody holds open every attempt
that had lived since. A transaction adds what it changed to a row of its own backend, in its last statement,
so that workers hardly ever wait for each other; a lane's count is the sum of its rows.
"""

from collections import Counter

from sqlalchemy import text
from sqlalchemy.orm import Session

HostQueueKey = tuple[str, str]

_SHARDS = 16

_ADD = text(f"""
    INSERT INTO live_count (account_id, host, shard, live)
    SELECT account_id, host, pg_backend_pid() % {_SHARDS}, change
      FROM unnest(CAST(:accounts AS text[]), CAST(:hosts AS text[]), CAST(:changes AS int[]))
           AS changed(account_id, host, change)
     ORDER BY account_id COLLATE "C", host COLLATE "C"
    ON CONFLICT (account_id, host, shard) DO UPDATE SET live = live_count.live + EXCLUDED.live
""")  # noqa: S608 - no input is in it

_BY_HOST_QUEUE = text("SELECT account_id, host, sum(live) FROM live_count GROUP BY account_id, host")

MISCOUNTED = """
    SELECT account_id, host, COALESCE(truth.live, 0) - COALESCE(counted.live, 0) AS missing
      FROM (SELECT COALESCE(account_id, '') AS account_id, host, count(*) AS live
              FROM job_assignment_mapping WHERE completed_at IS NULL GROUP BY 1, 2) truth
      FULL JOIN (SELECT account_id, host, sum(live) AS live FROM live_count GROUP BY 1, 2) counted
           USING (account_id, host)
     WHERE COALESCE(truth.live, 0) <> COALESCE(counted.live, 0)
"""
"""Lanes whose count is not what lives there. One snapshot sees both sides of every transaction."""

_RECOUNT = text(f"""
    INSERT INTO live_count (account_id, host, shard, live)
    SELECT account_id, host, pg_backend_pid() % {_SHARDS}, missing FROM ({MISCOUNTED}) miscounted
     ORDER BY account_id COLLATE "C", host COLLATE "C"
    ON CONFLICT (account_id, host, shard) DO UPDATE SET live = live_count.live + EXCLUDED.live
""")  # noqa: S608

_DELETE_EMPTY = text("""
    DELETE FROM live_count WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM live_count WHERE live = 0 LIMIT :limit FOR UPDATE SKIP LOCKED)) AND live = 0
""")


class LiveCounts:
    """The table `live_count`, and what this unit of work changes in it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changes: list[tuple[HostQueueKey, int]] = []

    def record(self, account_id: str | None, host: str, change: int) -> None:
        """Attempts began (1) or ended (-1) in a lane; it is written with the commit."""
        self._changes.append(((account_id or "", host), change))

    def write(self) -> None:
        """Add what was noted."""
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
        """Where we stand, for `reset`."""
        return len(self._changes)

    def reset(self, mark: int) -> None:
        """Forget what was noted since *mark*."""
        del self._changes[mark:]

    def by_host_queue(self) -> dict[HostQueueKey, int]:
        """How many live attempts each lane has."""
        return {(account_id, host): live for account_id, host, live in self._session.execute(_BY_HOST_QUEUE)}

    def recount(self) -> None:
        """Set right what is miscounted: the web app deleted a job that was being worked on, say."""
        self._session.execute(_RECOUNT)

    def delete_empty(self, limit: int) -> None:
        """Delete at most *limit* rows that count nothing."""
        self._session.execute(_DELETE_EMPTY, {"limit": limit})
