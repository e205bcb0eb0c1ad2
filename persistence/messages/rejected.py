"""Bad input, kept with its reason: redacted, and made storable, before anything else is done with it."""

import json
from hashlib import sha256
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.sanitize.json_values import clean_text, storable

_KEEP = text("""
    INSERT INTO rejected_message (id, task, message_id, reason, detail, payload)
    SELECT r.id, r.task, r.message_id, r.reason, r.detail, r.payload
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r(id text, task text, message_id text, reason text, detail text, payload jsonb)
""")

_DETAIL_BYTES = 2000


class RejectedMessages:
    """What this unit of work could not accept."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows: list[dict[str, Any]] = []

    def keep(
        self,
        *,
        task: str | None,
        payload: object,
        reason: str,
        detail: str = "",
        message_id: str | None = None,
    ) -> None:
        """
        Note a message, or one item of it, as rejected; it is written with the commit.

        *payload* may be anything at all; *reason* is a constant word, *detail* says more.
        """
        self._rows.append(
            {
                "id": str(ULID()),
                "task": None if task is None else clean_text(task, 200),
                "message_id": None if message_id is None else clean_text(message_id, 200),
                "reason": reason,
                "detail": clean_text(detail, _DETAIL_BYTES),
                "payload": storable(payload),
            }
        )

    def write(self) -> None:
        """Write what was noted."""
        if self._rows:
            self._session.execute(_KEEP, {"rows": json.dumps(self._rows, allow_nan=False)})
            self._rows.clear()

    def fingerprint(self) -> str:
        """The same for the same rejections of the same message: what a message handled as that is claimed by."""
        rows = [{column: value for column, value in row.items() if column != "id"} for row in self._rows]
        return sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    def mark(self) -> int:
        """Where we stand, for `reset`."""
        return len(self._rows)

    def reset(self, mark: int) -> None:
        """Forget what was noted since *mark*."""
        del self._rows[mark:]
