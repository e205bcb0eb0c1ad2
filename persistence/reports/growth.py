"""Reads how near to its bound is what may only grow so far, for operators."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from persistence.schema.sql import sql
from persistence.settings import settings

NEAR: Final = 0.8
"""The part of a bound from which it is near."""

_NAMED = 3
"""The most accounts that are read for one bound."""

_IN_ALL = sql("""
    -- Sizes as they were last counted, or as the last ANALYZE of a table estimated them: nothing is counted here but
    -- the open connections.
    WITH open AS (SELECT count(*) AS rows FROM socket_connection WHERE is_active),
         estimated (setting, name) AS (
             VALUES ('max_handled', 'handled_message'), ('max_errors', 'job_error_log'),
                    ('max_area_changes', 'area_change'), ('max_events', 'dispatch_event'),
                    ('max_closed_connections', 'socket_connection'))
    SELECT 'max_connections' AS setting, rows FROM open
    UNION ALL
    SELECT 'max_areas', sum(CAST(areas.value AS bigint))
      FROM statistic, jsonb_each_text(statistic.value) areas WHERE name = 'areas'
    UNION ALL
    SELECT kept.setting, kept.rows
      FROM rejected_count, LATERAL (VALUES ('max_rejected', rows), ('max_rejected_bytes', bytes)) AS kept(setting, rows)
     WHERE connection_id = '*'
    UNION ALL
    SELECT setting, CAST(reltuples AS bigint) - CASE name WHEN 'socket_connection' THEN rows ELSE 0 END
      FROM estimated, open, pg_class WHERE oid = to_regclass(name)
""")

_OF_ACCOUNTS = sql("""
    SELECT setting, account_id, rows FROM (
        SELECT most.setting, busy.account_id,
               CASE most.setting WHEN 'max_deferred' THEN coalesce(entries.deferred, 0)
                    ELSE coalesce(entries.ready, 0) + coalesce(entries.backed_off, 0) + coalesce(entries.held, 0) END
                   AS rows
          FROM statistic,
               jsonb_to_recordset(value -> 'busiest') AS busy(account_id text, entries jsonb),
               jsonb_to_record(busy.entries) AS entries(ready bigint, backed_off bigint, held bigint, deferred bigint),
               (VALUES ('waiting'), ('max_deferred')) AS most(setting)
         WHERE name = 'accounts'
        UNION ALL
        SELECT 'max_areas_per_account', "accountId", count(*) FROM area_authorization
         -- With fewer in all no account has so many.
         WHERE (SELECT CAST(value AS bigint) FROM statistic WHERE name = 'authorizations') >= :areas
         GROUP BY 2 HAVING count(*) >= :areas
    ) counted
     ORDER BY rows DESC, account_id COLLATE "C"
""")


@dataclass(frozen=True)
class Size:
    """How much there is of something that has a bound."""

    setting: str
    """The field of the settings that bounds it."""
    rows: int
    most: int
    account_id: str | None = None
    """If the bound is one for each account."""


def near_bounds(connection: Connection) -> list[Size]:
    """What has reached NEAR of its bound, what is bounded in all first; of each bound at most three accounts."""
    found = [
        Size(setting, int(rows or 0), getattr(settings(), setting))
        for setting, rows in connection.execute(_IN_ALL)
    ]
    near = [size for size in found if size.rows >= NEAR * size.most]
    return near + list(_of_accounts(connection))


def _of_accounts(connection: Connection) -> Iterator[Size]:
    waiting = "max_waiting" if settings().pending_cap is None else "pending_cap"
    seen: dict[str, int] = {}
    for name, account_id, rows in connection.execute(
        _OF_ACCOUNTS, {"areas": NEAR * settings().max_areas_per_account}
    ):
        setting = waiting if name == "waiting" else name
        size = Size(setting, rows, getattr(settings(), setting), account_id)
        seen[setting] = seen.get(setting, 0) + 1
        if size.rows and size.rows >= NEAR * size.most and seen[setting] <= _NAMED:
            yield size
