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

A text that is not a message is passed on whole, wrapped in an envelope of its own, so that it is acknowledged like
any other once it is stored.
"""

import base64
import binascii
import json
import re
from contextlib import suppress
from typing import Any
from uuid import uuid4

from persistence.db.json_tree import is_nested_deeper
from tasks.worker import serialization

_JSON = "application/json"

WRAPPED = "application/x-crawlyard-malformed"
"""The content type of an envelope whose body is a text that is not a message."""

MAX_DEPTH = 200
"""
Levels of nesting that a body may have.

Passing a body to a child is recursive: at 480 levels it fails, and the child's place in the pool is lost.
"""

MAX_RETRIES = 1000

_NAME = re.compile(r"[!-~]{1,200}")
"""The name of a task, or an id: visible ASCII, which can be logged and stored."""

_EMBEDDED = frozenset({"callbacks", "errbacks", "chain", "chord"})


class MalformedError(Exception):
    """A text or a body that is not a valid message. The error does not quote it."""


def seal(raw: bytes, queue: str) -> str:
    """Return the envelope that kombu gets for the text *raw*, popped from *queue*, whatever it is."""
    raw = _unwrap(raw)
    try:
        envelope = read(raw)
    except MalformedError:
        envelope = _wrap(raw)
    envelope["properties"] = {
        "delivery_tag": str(uuid4()),
        "delivery_info": {"exchange": "", "routing_key": queue},
        "body_encoding": "base64",
    }
    return json.dumps(envelope)


def read(raw: bytes) -> dict[str, Any]:
    """
    Return the parts of the envelope *raw* that the worker needs: body (as base64), content type, headers.

    Raises MalformedError if one is missing or invalid.
    """
    envelope = _json_object(raw)
    if envelope.get("content-type") != _JSON:
        raise MalformedError("the content-type is not application/json")
    encoding = envelope.get("content-encoding")
    if encoding is not None and (not isinstance(encoding, str) or encoding.lower() != "utf-8"):
        raise MalformedError("the content-encoding is not utf-8")
    return {
        "body": base64.b64encode(_body(envelope)).decode(),
        "content-type": _JSON,
        "content-encoding": "utf-8",
        "headers": _headers(envelope.get("headers")),
    }


def check_body(body: object) -> None:
    """Raise MalformedError unless *body* is `[args, kwargs, embed]`, as in Celery's protocol 2."""
    match body:
        case [list(), dict(), None | dict() as embed]:
            pass
        case _:
            raise MalformedError("the body is not [args, kwargs, embed]")
    if not (embed or {}).keys() <= _EMBEDDED or any((embed or {}).values()):
        raise MalformedError("callbacks, chains and chords are not accepted")
    if is_nested_deeper(body, MAX_DEPTH + 1):  # the body's own list is not counted
        raise MalformedError(f"the body is nested more than {MAX_DEPTH} levels deep")


def readable(raw: bytes) -> object:
    """
    As much of a malformed text as a person can read later: JSON, else text.

    JSON that is nested too deep stays text. Of bytes that are not text, and of a body that is not JSON either by its
    content type or in fact, only the length remains: a pickled body may contain secrets that no redaction recognizes.
    """
    whole = _parsed(raw)
    if isinstance(whole, dict) and isinstance(whole.get("body"), str):
        whole["body"] = _readable_body(whole)
    return whole


def _readable_body(envelope: dict[str, Any]) -> object:
    """The decoded body, or the original if it cannot be decoded."""
    raw: bytes | str = envelope["body"]
    with suppress(MalformedError):
        raw = _body(envelope)
    read = _parsed(raw) if isinstance(raw, bytes) else raw
    is_json = envelope.get("content-type", _JSON) == _JSON
    return _describe_bytes(raw) if isinstance(read, str) and (not is_json or _hides_bytes(read)) else read


def _hides_bytes(text: str) -> bool:
    """True if it is base64 of bytes that are not text."""
    try:
        base64.b64decode(text, validate=True).decode()
    except UnicodeDecodeError:
        return True
    except ValueError:
        pass  # it is not base64
    return False


def message_id(raw: bytes) -> str | None:
    """The id in the headers of a malformed text, if it has one."""
    try:
        headers = _json_object(raw).get("headers")
    except MalformedError:
        return None
    return _name(headers.get("id")) if isinstance(headers, dict) else None


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        envelope = serialization.loads(raw)
    except (ValueError, RecursionError):
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
    return {
        "lang": "py",
        "task": task,
        "id": id_,
        "root_id": _name(headers.get("root_id")),
        "parent_id": _name(headers.get("parent_id")),
        "origin": _name(headers.get("origin")),
        "redelivered": headers.get("redelivered") is True,
        # It bounds how often a message may kill its child: a producer must not start it at -1000.
        "retries": retries if type(retries) is int and 0 <= retries <= MAX_RETRIES else 0,
    }


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _wrap(raw: bytes) -> dict[str, Any]:
    return {
        "body": base64.b64encode(raw).decode(),
        "content-type": WRAPPED,
        "content-encoding": "binary",
        "headers": {},
    }


def _unwrap(raw: bytes) -> bytes:
    """The original text, if a worker died with it and Redis redelivered it wrapped."""
    if WRAPPED.encode() not in raw:
        return raw
    try:
        envelope = _json_object(raw)
        return _body(envelope) if envelope.get("content-type") == WRAPPED else raw
    except MalformedError:
        return raw


def _parsed(raw: bytes) -> object:
    with suppress(ValueError, RecursionError):
        value = serialization.loads(raw)
        if not is_nested_deeper(value, MAX_DEPTH):
            return value
    with suppress(ValueError):
        return raw.decode()
    return _describe_bytes(raw)


def _describe_bytes(raw: bytes | str) -> str:
    return f"[{len(raw):,} bytes that are not text]"
