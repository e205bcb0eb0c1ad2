"""
What is left of accounts that the web app has deleted.

Their jobs are gone before them, with everything that refers to a job. What only names an account stays: its rows in
`account_lane` and `account_origin`, which is how such an account is found, and which are deleted last; events, rejected
messages, deferred jobs, refreshes and changes of areas.
"""

from collections.abc import Collection

from sqlalchemy.orm import Session

from persistence.events.trim import EventsPage, delete_events_of
from persistence.messages.rejected_queries import delete_rejected_naming
from persistence.schema.ids import AccountId
from persistence.schema.sql import sql

_GONE = sql("""
    SELECT account_id FROM (SELECT account_id FROM account_lane UNION SELECT account_id FROM account_origin) known
     WHERE NOT EXISTS (SELECT FROM account WHERE account.id = known.account_id)
     ORDER BY account_id COLLATE "C" LIMIT :limit
""")

_STILL_GONE = sql("""
    SELECT id FROM unnest(CAST(:ids AS text[])) AS erased(id)
     WHERE NOT EXISTS (SELECT FROM account WHERE account.id = erased.id) ORDER BY id COLLATE "C"
""")

_TABLES = ("account_lane", "account_origin", "deferred_job", "credential_refresh", "area_change")

_DELETE_FROM = [
    sql("DELETE FROM $table WHERE account_id = ANY (CAST(:ids AS text[]))", table=table) for table in _TABLES
]


class Erasure:
    """Accounts that are gone, and the rows that name them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def gone(self, limit: int) -> list[AccountId]:
        """Accounts of which something is left, though the web app has deleted them."""
        return list(self._session.scalars(_GONE, {"limit": limit}))

    def delete_events(
        self, ids: Collection[AccountId], after: tuple[str, int], limit: int
    ) -> EventsPage | None:
        """Delete the events of these accounts among the next *limit* events; None if there are no more events."""
        return delete_events_of(self._session, ids, after, limit)

    def delete_rejected(self, ids: Collection[AccountId], after: str, limit: int) -> tuple[str | None, int]:
        """
        Delete the rejected messages that name these accounts among the next *limit*.

        Returns the last id, None if there are no more, and how many were deleted.
        """
        return delete_rejected_naming(self._session, ids, after, limit)

    def delete_rest(self, ids: Collection[AccountId]) -> list[AccountId]:
        """Delete what else is left of these accounts; returns them, without any that exists again."""
        gone = list(self._session.scalars(_STILL_GONE, {"ids": list(ids)}))
        for statement in _DELETE_FROM if gone else ():
            self._session.execute(statement, {"ids": gone})
        return gone
