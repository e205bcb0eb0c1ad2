"""
Checks the texts of a queue, and reduces each to an envelope that is safe for kombu and Celery.

kombu and Celery trust what they read: invalid base64, a `timelimit` that is a number, or a task name that is a list
ends the worker, and the redelivered message ends it again at each restart. Therefore every text is parsed here first,
and only what the worker needs is passed on:

- `eta`, `expires` and `timelimit` are dropped. They compare the clocks of two machines; only the database's clock
  counts.
- Delivery tag and destination are replaced. A tag that occurs twice would confuse two messages until they are
  acknowledged, and a foreign routing key would send a redelivered message to a queue that no worker reads.
- `argsrepr`, `kwargsrepr` and priorities are dropped. The first two repeat the payload in logs; a priority would let
  the sweep overtake the frames that are queued before it.

A text that is not a message is passed on, wrapped in an envelope of its own, so that it is acknowledged like any other
once it is stored. Here only the envelope is parsed, within bounds: the body is read where its task runs.
"""

import base64
import binascii
import json
import re
from typing import Any
from uuid import uuid4

from persistence.db.json_bounds import MAX_BYTES, TooDeepError, TooLargeError, parse_json
from tasks.runtime.reading.readable import READABLE_BYTES
from tasks.worker.records import WRAPPED, unwrap

_JSON = "application/json"

MAX_TEXT_BYTES = MAX_BYTES * 4 // 3 + READABLE_BYTES
"""Bytes of a text in Redis: the largest body in base64, and the rest of its envelope."""

_ENVELOPE_VALUES = 1_000
_ENVELOPE_DEPTH = 20
"""Structure of an envelope without its body. Celery's own has under 100 values and 5 levels."""

MAX_RETRIES = 1000

MAX_DELIVERIES = 4
"""So many workers may die with a message in hand. It is then kept as rejected."""

_NAME = re.compile(r"[!-~]{1,200}")
"""The name of a task, or an id: visible ASCII, which can be logged and stored."""


class MalformedError(Exception):
    """A text that is not a valid message, or that no task may take. The error does not quote it."""

    def __init__(self, detail: str, reason: str = "malformed") -> None:
        super().__init__(detail)
        self.reason = reason


def seal(raw: bytes, queue: str, tag: str | None = None) -> str:
    """Return the envelope that kombu gets for the text *raw*, popped from *queue*, whatever it is."""
    envelope = _safe(raw)
    envelope["properties"] = {
        "delivery_tag": tag or str(uuid4()),
        "delivery_info": {"exchange": "", "routing_key": queue},
        "body_encoding": "base64",
    }
    return json.dumps(envelope)


def _safe(raw: bytes) -> dict[str, Any]:
    """The envelope without its properties."""
    wrapped = unwrap(raw)
    if wrapped is None:
        deliveries = 0
    elif wrapped.deliveries <= MAX_DELIVERIES:
        raw, deliveries = base64.b64decode(wrapped.body), wrapped.deliveries
    else:
        # Not even its envelope is read once more.
        head = base64.b64decode(wrapped.body[: READABLE_BYTES // 3 * 4])
        return _wrap(head, {"reason": "worker_lost", "detail": _deaths(wrapped.deliveries)})
    raw = _unwrap_old(raw)
    try:
        envelope = read(raw)
    except MalformedError as error:
        return _wrap(raw, {"reason": error.reason, "detail": str(error), "id": message_id(raw)})
    envelope["headers"]["deliveries"] = deliveries
    if wrapped:
        envelope["headers"]["redelivered"] = True
    return envelope


def check_deliveries(deliveries: object) -> None:
    """Raise MalformedError if as many workers died with a message as may."""
    if isinstance(deliveries, int) and deliveries >= MAX_DELIVERIES:
        raise MalformedError(_deaths(deliveries), "worker_lost")


def _deaths(deliveries: int) -> str:
    return f"{deliveries} workers died with it in hand"


def read(raw: bytes) -> dict[str, Any]:
    """
    Return the parts of the envelope *raw* that the worker needs: body (as base64), content type, headers.

    Raises MalformedError if one is missing or invalid, or if the text is beyond a bound.
    """
    envelope = _json_object(raw)
    if envelope.get("content-type") != _JSON:
        raise MalformedError("the content-type is not application/json")
    encoding = envelope.get("content-encoding")
    if encoding is not None and (not isinstance(encoding, str) or encoding.lower() != "utf-8"):
        raise MalformedError("the content-encoding is not utf-8")
    body = _body(envelope)
    if len(body) > MAX_BYTES:
        raise MalformedError(f"the body has {len(body):,} bytes, more than {MAX_BYTES:,}", "too_large")
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": _JSON,
        "content-encoding": "utf-8",
        "headers": _headers(envelope.get("headers")),
    }


def message_id(raw: bytes) -> str | None:
    """The id in the headers of a malformed text, if it has one."""
    try:
        headers = _json_object(raw).get("headers")
    except MalformedError:
        return None
    return _name(headers.get("id")) if isinstance(headers, dict) else None


def _json_object(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_TEXT_BYTES:
        raise MalformedError(f"the text has more than {MAX_TEXT_BYTES:,} bytes", "too_large")
    try:
        envelope = parse_json(raw, size=MAX_TEXT_BYTES, values=_ENVELOPE_VALUES, depth=_ENVELOPE_DEPTH)
    except (TooLargeError, TooDeepError) as error:
        raise MalformedError(f"the envelope: {error}") from None
    except ValueError:
        raise MalformedError("the text is not JSON") from None
    if not isinstance(envelope, dict):
        raise MalformedError("the text is not a JSON object")
    return envelope


def _body(envelope: dict[str, Any]) -> bytes:
    """The body's bytes, whether it came as base64 or plain."""
    body, properties = envelope.get("body"), envelope.get("properties")
    if not isinstance(body, str) or not isinstance(properties, dict):
        raise MalformedError("the body is not text, or the properties are missing")
    encoding = properties.get("body_encoding")
    try:
        if encoding == "base64":
            return base64.b64decode(body)
        if encoding in (None, "utf-8"):
            return body.encode()
    except (binascii.Error, ValueError):
        raise MalformedError("the body is not what its body_encoding says") from None
    raise MalformedError("the body_encoding is neither base64 nor utf-8")


def _headers(headers: object) -> dict[str, Any]:
    if not isinstance(headers, dict):
        raise MalformedError("there are no headers")
    task, id_, retries = _name(headers.get("task")), _name(headers.get("id")), headers.get("retries")
    if task is None or id_ is None:
        raise MalformedError("the header task or id is missing or not a plain name")
    deployment = headers.get("deployment") or None
    if deployment is not None and _name(deployment) is None:
        raise MalformedError("the header deployment is not a plain name")
    return {
        "lang": "py",
        "task": task,
        "id": id_,
        "root_id": _name(headers.get("root_id")),
        "parent_id": _name(headers.get("parent_id")),
        "origin": _name(headers.get("origin")),
        "deployment": deployment,
        "redelivered": headers.get("redelivered") is True,
        # It bounds how often a message may kill its child: a producer must not start it at -1000.
        "retries": retries if type(retries) is int and 0 <= retries <= MAX_RETRIES else 0,
    }


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _wrap(raw: bytes, headers: dict[str, Any]) -> dict[str, Any]:
    """An envelope for a text that no task gets, as much of it as is stored. Its headers say why."""
    return {
        "body": base64.b64encode(raw if len(raw) <= READABLE_BYTES else raw[: READABLE_BYTES + 1]).decode(),
        "content-type": WRAPPED,
        "content-encoding": "binary",
        "headers": headers,
    }


def _unwrap_old(raw: bytes) -> bytes:
    """The original text, if a worker of an older version put it back wrapped."""
    if WRAPPED.encode() not in raw:
        return raw
    try:
        envelope = _json_object(raw)
        return _body(envelope) if envelope.get("content-type") == WRAPPED else raw
    except MalformedError:
        return raw
