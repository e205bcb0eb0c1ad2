"""Rejected input, stored with the reason. It is redacted and made storable before anything else happens to it."""

import json
from hashlib import sha256
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.messages.rejected_bounds import RejectedBounds, connection_of
from persistence.sanitize.json_values import ESCAPED, clean_text, storable
from persistence.sanitize.known_tokens import KnownTokens

_KEEP = text("""
    INSERT INTO rejected_message (id, task, message_id, reason, detail, payload, connection_id, bytes)
    SELECT id, task, message_id, reason, detail, payload, connection_id, bytes
      FROM jsonb_populate_recordset(NULL::rejected_message, CAST(:rows AS jsonb))
""")

_DETAIL_BYTES = 2000


class RejectedMessages:
    """The messages and items that this unit of work rejects."""

    def __init__(self, session: Session, bounds: RejectedBounds, tokens: KnownTokens) -> None:
        self._session = session
        self._bounds = bounds
        self._tokens = tokens
        self._rows: list[dict[str, Any]] = []

    def keep(
        self,
        *,
        task: str | None,
        payload: object,
        reason: str,
        detail: str = "",
        message_id: str | None = None,
        connection_id: str | None = None,
    ) -> None:
        """
        Note a message, or one item of it, as rejected; the commit writes it, within the bounds.

        *payload* may be any object. *reason* is one of a fixed set of names, *detail* explains it. *connection_id* is
        the connection whose bounds it counts in; by default the one that the payload names.
        """
        tokens = self._tokens.values()
        stored = storable(payload, tokens=tokens)
        self._rows.append(
            {
                "id": str(ULID()),
                "task": None if task is None else clean_text(task, 200, tokens),
                "message_id": None if message_id is None else clean_text(message_id, 200, tokens),
                "reason": reason,
                "detail": clean_text(detail, _DETAIL_BYTES, tokens),
                "payload": stored,
                "connection_id": connection_id or connection_of(payload),
                "bytes": 0 if stored is None else len(json.dumps(stored)),
            }
        )

    def escape(self) -> None:
        """Turn what was noted into ASCII, which every database can store: the payload becomes `{"escaped": text}`."""
        for row in self._rows:
            row["payload"] = {ESCAPED: json.dumps(row["payload"])}
            row["bytes"] = len(json.dumps(row["payload"]))
            for column in ("task", "message_id", "detail", "connection_id"):
                if row[column] is not None:
                    row[column] = row[column].encode("ascii", "backslashreplace").decode()

    def write(self) -> list[str]:
        """Write the rejections that were noted, within the bounds; returns the connections that reached them."""
        if not self._rows:
            return []
        admitted, reached = self._bounds.admit(self._rows)
        self._rows.clear()
        if admitted:
            self._session.execute(_KEEP, {"rows": json.dumps(admitted, allow_nan=False)})
        return reached

    def count(self) -> None:
        """Count what `write` has written; the commit must follow at once."""
        self._bounds.add()

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
