"""
The record of a message in hand, which Redis keeps until the message is acknowledged.

It is written before anything of the text is read. If the worker dies, another one puts the text back, wrapped, with the
number of such deaths: a text that kills whoever reads it is recognized by that number and not read again. Here no text
is parsed; the format is fixed, and is an envelope that workers of older versions unwrap.
"""

import base64
import json
import re
from typing import Final, NamedTuple

from persistence.db.json_bounds import parse_json
from tasks.routes import DEFAULT_QUEUE, QUEUES

WRAPPED: Final = "application/x-crawlyard-malformed"
"""The content type of an envelope whose body is a text as it was popped."""

_HEAD = '{"headers": {"deliveries": %d, "redelivered": true}'
_REST = (
    ', "content-type": "' + WRAPPED + '", "content-encoding": "binary", '
    '"properties": {"body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "%s"}}, "body": "'
)
_WRAPPER = re.compile(
    (re.escape(_HEAD) + re.escape(_REST)).replace("%d", r"(\d{1,9})").replace("%s", r"(\w{1,64})").encode()
    + rb'([A-Za-z0-9+/]*={0,2})"\}'
)


class Wrapped(NamedTuple):
    """A text that was put back."""

    deliveries: int
    """How many workers died with it."""
    body: bytes
    """The text, in base64."""


def unwrap(raw: bytes) -> Wrapped | None:
    """Read a text that was put back; None for any other. It parses nothing."""
    if not raw.startswith(b'{"headers": {"deliveries": '):
        return None
    found = _WRAPPER.fullmatch(raw)
    return found and Wrapped(int(found[1]), found[3])


def record_of(raw: bytes, queue: str) -> bytes:
    """Return the record of a text popped from *queue*: kombu's `[message, exchange, routing key]`."""
    wrapped = unwrap(raw) or Wrapped(0, base64.b64encode(raw))
    return b'[%b, "", "%b"]' % (_wrap(wrapped, queue), queue.encode())


def put_back(record: bytes, *, died: bool) -> tuple[str, bytes]:
    """
    Return the queue and the text to push for a record, whoever wrote it.

    *died*: its worker died with it. A record that cannot be read becomes a text of the default queue, which is kept
    as malformed.
    """
    end = record.rfind(b', "", "')
    if record.startswith(b"[") and (wrapped := unwrap(record[1:end])):
        queue = record[end + len(b', "", "') : -2].decode()
        if queue in QUEUES:
            return queue, _wrap(wrapped._replace(deliveries=wrapped.deliveries + died), queue)
    try:
        message, _, queue = parse_json(record)
        message["headers"]["redelivered"] = True
        return (queue if queue in QUEUES else DEFAULT_QUEUE), json.dumps(message).encode()
    except (ValueError, LookupError, TypeError):
        return DEFAULT_QUEUE, record


def _wrap(wrapped: Wrapped, queue: str) -> bytes:
    return (_HEAD % wrapped.deliveries + _REST % queue).encode() + wrapped.body + b'"}'
