"""Texts that any producer may push: envelopes with strange parts, truncated ones, and other texts."""

import base64
import copy
import gzip
import json
import pickle
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from proofs.fuzz.mutations import JUNK, SECRET, mutated
from support.processes.workers import envelope
from tasks.worker.records import WRAPPED

ARGUMENTS = {"frames": [{"access_token": SECRET}, {"a": [1, {"b": None}]}]}

_SIGNATURE = {"task": "jobs.cancel", "args": [], "kwargs": {}, "options": {"reply_to": "crawler"}}

_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "eta": JUNK | st.just("2036-01-01T00:00:00Z"),
        "expires": JUNK | st.just("2001-01-01T00:00:00Z"),
        "countdown": JUNK,
        "timelimit": JUNK | st.just([1e-6, 1e-6]),
        "retries": JUNK | st.integers(),
        "group": JUNK,
        "chord": JUNK | st.just(_SIGNATURE),
        "callbacks": JUNK | st.just([_SIGNATURE]),
        "errbacks": JUNK | st.just([_SIGNATURE]),
        "reply_to": JUNK | st.just("crawler"),
        "root_id": JUNK,
        "parent_id": JUNK,
        "ignore_result": JUNK,
        "replaced_task_nesting": JUNK,
        "stamped_headers": JUNK,
        "stamps": JUNK,
        "shadow": JUNK,
        "lang": JUNK,
        "origin": JUNK,
        "redelivered": JUNK,
        "compression": JUNK | st.sampled_from(["application/x-gzip", "zlib", "bzip2"]),
        "delivery_info": JUNK,
        "hostname": JUNK,
        "argsrepr": JUNK,
        "kwargsrepr": JUNK,
    },
)
"""The headers that Celery knows, also with valid values that would have an effect."""

_PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "priority": JUNK | st.sampled_from([-1, 9, 255]),
        "reply_to": JUNK | st.just("crawler"),
        "correlation_id": JUNK,
        "delivery_tag": JUNK,
        "delivery_mode": JUNK,
        "delivery_info": JUNK | st.just({"exchange": "x", "routing_key": "y", "redelivered": True}),
        "expiration": JUNK | st.just("0"),
        "body_encoding": JUNK | st.sampled_from(["base64", "utf-8"]),
    },
)

_EMBEDDED = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["callbacks", "errbacks", "chain", "chord"], JUNK)
)

_PROTOCOL_1 = {
    "task": "crawler.frames",
    "id": "protocol-1",
    "args": [],
    "kwargs": ARGUMENTS,
    "retries": 0,
    "eta": None,
    "expires": None,
    "utc": True,
    "callbacks": None,
    "errbacks": None,
    "timelimit": [None, None],
    "taskset": None,
    "chord": None,
}

_BODIES = [
    pickle.dumps([[], ARGUMENTS, {}]),
    gzip.compress(json.dumps([[], ARGUMENTS, {}]).encode()),
    gzip.compress(b"[" + b"0," * 2_000_000 + b"0]"),
    json.dumps(_PROTOCOL_1).encode(),
    json.dumps([[], ARGUMENTS, {}]).encode("utf-16"),
    b"\xef\xbb\xbf" + json.dumps([[], ARGUMENTS, {}]).encode(),
    b'[[], {"frames": ' + b"[" * 250 + b"]" * 250 + b"}, {}]",
    b'[[], {"frames": [NaN, Infinity, 1e999]}, {}]',
    b'[[], {"frames": [' + b"9" * 5_000 + b"]}, {}]",
    b'[[], {"frames": []}, {}] and more',
    b"",
    b"null",
]
"""Bodies of other protocols, serializers, compressions and encodings, and invalid ones."""

_CONTENT_TYPES = JUNK | st.sampled_from(
    ["application/x-python-serialize", "application/x-yaml", "application/x-msgpack", "text/plain", WRAPPED]
)


@st.composite
def _strange(draw: DrawFn) -> dict[str, Any]:
    """Draw an envelope with strange headers or properties, or a strange body."""
    made = envelope(
        "crawler.frames", copy.deepcopy(ARGUMENTS), headers=draw(_HEADERS), properties=draw(_PROPERTIES)
    )
    match draw(st.integers(0, 5)):
        case 0:
            made["body"] = base64.b64encode(draw(st.sampled_from(_BODIES) | st.binary(max_size=40))).decode()
        case 1:
            made["content-type"] = draw(_CONTENT_TYPES)
        case 2:
            made["content-encoding"] = draw(JUNK | st.sampled_from(["binary", "gzip", "UTF-8", "utf-16"]))
        case 3:
            body = json.dumps([[], ARGUMENTS, draw(_EMBEDDED)])
            made["body"] = base64.b64encode(body.encode()).decode()
    return made


@st.composite
def texts(draw: DrawFn) -> bytes:
    """Draw a text of a queue."""
    made = draw(_strange())
    if draw(st.booleans()):
        made = draw(mutated(st.just(made)))
    text = json.dumps(made, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    match draw(st.integers(0, 7)):
        case 0:
            return text[: draw(st.integers(0, len(text)))]
        case 1:
            place = draw(st.integers(0, len(text)))
            return text[:place] + draw(st.binary(min_size=1, max_size=8)) + text[place:]
        case 2:
            return draw(st.binary(max_size=60) | st.sampled_from(_BODIES))
    return text
