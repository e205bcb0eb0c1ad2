"""Rejected input, stored with the reason. It is redacted and made storable before anything else happens to it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.messages.rejected_bounds import RejectedBounds, connection_of
from persistence.sanitize.json_values import ESCAPED, JSON, clean_text, storable
from persistence.sanitize.known_tokens import KnownTokens

_KEEP = text("""
    INSERT INTO rejected_message
           (id, task, message_id, reason, detail, payload, connection_id, bytes, digest, sent_bytes)
    SELECT id, task, message_id, reason, detail, payload, connection_id, bytes, digest, sent_bytes
      FROM jsonb_populate_recordset(NULL::rejected_message, CAST(:rows AS jsonb))
    ON CONFLICT (id) DO NOTHING  -- a refused item has the same id at each delivery
""")

_UNFILLED = text("""
    SELECT id FROM rejected_message
     WHERE id = ANY(CAST(:ids AS text[])) AND payload IS NULL AND NOT sampled_out AND sent_bytes IS NOT NULL
""")

_FILL = text("""
    UPDATE rejected_message r SET payload = filled.payload, bytes = filled.bytes
      FROM jsonb_populate_recordset(NULL::rejected_message, CAST(:rows AS jsonb)) filled
     WHERE r.id = filled.id AND r.payload IS NULL
""")

_CONNECTIONS = text("""
    SELECT id, connection_id FROM rejected_message WHERE id = ANY(CAST(:ids AS text[]))
""")

_SAMPLE_OUT = text("""
    UPDATE rejected_message
       SET sampled_out = true, detail = detail || '; its payload was not kept: its message had too much of this'
     WHERE id = ANY(CAST(:ids AS text[])) AND payload IS NULL AND NOT sampled_out
""")

_DETAIL_BYTES = 2000

_cleaned = lru_cache(maxsize=256)(clean_text)
"""Cached: the refused items of a message have few reasons, and one message id."""


@dataclass(frozen=True)
class Refused:
    """A refused item of a message, without its payload: what its row holds has a fixed size."""

    id: str
    """The same at each delivery."""
    reason: str
    detail: str
    connection_id: str | None
    digest: str
    sent_bytes: int


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

    def claim(self, refused: Refused, *, task: str | None, message_id: str) -> None:
        """Note a refused item without its payload, which `fill` adds after the commit of this unit."""
        self._rows.append(
            {
                "id": refused.id,
                "task": task,
                "message_id": _cleaned(message_id, 200),
                "reason": refused.reason,
                "detail": _cleaned(refused.detail, _DETAIL_BYTES),
                "payload": None,
                "connection_id": refused.connection_id,
                "bytes": 0,
                "digest": refused.digest,
                "sent_bytes": refused.sent_bytes,
            }
        )

    def unfilled(self, ids: Collection[str]) -> set[str]:
        """Those of the claimed items whose payload is neither stored nor sampled out."""
        return set(self._session.scalars(_UNFILLED, {"ids": list(ids)}))

    def fill(self, payloads: Mapping[str, JSON]) -> None:
        """
        Store the payloads of claimed items, by id, within the bounds; the commit must follow at once.

        They are redacted and storable. One for which there is no room is sampled out.
        """
        rows = [{"id": id_, "payload": p, "bytes": len(json.dumps(p))} for id_, p in sorted(payloads.items())]
        found = self._session.execute(_CONNECTIONS, {"ids": list(payloads)})
        connections = {row.id: row.connection_id for row in found}
        fitting = self._bounds.fit([row | {"connection_id": connections.get(row["id"])} for row in rows])
        if fitting:
            self._session.execute(_FILL, {"rows": json.dumps(fitting, allow_nan=False)})
        self.sample_out(payloads.keys() - {row["id"] for row in fitting})
        self._bounds.add()

    def sample_out(self, ids: Collection[str]) -> None:
        """Say of claimed items that their payloads are not kept."""
        if ids:
            self._session.execute(_SAMPLE_OUT, {"ids": sorted(ids)})

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
