"""Rejected input, stored with the reason. It is redacted and made storable before anything else happens to it."""

import json
from hashlib import sha256
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.sanitize.json_values import clean_text, storable

_KEEP = text("""
    INSERT INTO rejected_message (id, task, message_id, reason, detail, payload)
    SELECT id, task, message_id, reason, detail, payload
      FROM jsonb_populate_recordset(NULL::rejected_message, CAST(:rows AS jsonb))
""")

_DETAIL_BYTES = 2000


class RejectedMessages:
    """The messages and items that this unit of work rejects."""

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
        Note a message, or one item of it, as rejected; the commit writes it.

        *payload* may be any object. *reason* is one of a fixed set of names, *detail* explains it.
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
        """Write the rejections that were noted."""
        if self._rows:
            self._session.execute(_KEEP, {"rows": json.dumps(self._rows, allow_nan=False)})
            self._rows.clear()

    def fingerprint(self) -> str:
        """A hash of the noted rejections, equal whenever the same input is rejected for the same reasons."""
        rows = [{column: value for column, value in row.items() if column != "id"} for row in self._rows]
        return sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    def mark(self) -> int:
        """The current position, for `reset`."""
        return len(self._rows)

    def reset(self, mark: int) -> None:
        """Discard the rejections noted since *mark*."""
        del self._rows[mark:]
