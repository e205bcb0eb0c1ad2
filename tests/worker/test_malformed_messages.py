"""A message that no task can process is rejected, does not end the worker, and appears in no log."""

import base64
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes.workers import Valkey, Worker, envelope, running, wait_until

pytestmark = pytest.mark.programs

SECRET = "glpat-SECRETSECRETSECRET"
ARGUMENTS = {"frames": [{"access_token": SECRET}]}


def text(*args: Any, **changes: Any) -> bytes:
    """A message as Redis stores it."""
    return json.dumps(envelope("crawler.frames", *args, **changes)).encode()


def without(part: str) -> bytes:
    """A valid message without one part of its envelope."""
    message = envelope("crawler.frames", ARGUMENTS)
    del message[part]
    return json.dumps(message).encode()


def nested(levels: int) -> bytes:
    """A body whose arguments are lists in lists."""
    return b'[[], {"frames": ' + b"[" * levels + b"]" * levels + b"}, {}]"


MALFORMED = {
    "no JSON": f"{{{SECRET}".encode(),
    "no object": json.dumps([SECRET]).encode(),
    "a number": b"5",
    "no text": b"\xff\xfe\x00" + SECRET.encode(),
    "empty": b"",
    "an endless list": b"[" * 100_000,
    "a huge number": b'{"headers": ' + b"9" * 10_000 + b"}",
    "an unknown __type__ in the headers": text(
        headers={"x": {"__type__": SECRET, "__value__": 1}, "id": None}
    ),
    "no headers": without("headers"),
    "no properties": without("properties"),
    "no body": without("body"),
    "headers that are a list": json.dumps(
        envelope("crawler.frames", ARGUMENTS) | {"headers": ["x"]}
    ).encode(),
    "no task": text(ARGUMENTS, headers={"task": None}),
    "a task that is a list": text(ARGUMENTS, headers={"task": ["x"]}),
    "no id": text(ARGUMENTS, headers={"id": None}),
    "an id that is an object": text(ARGUMENTS, headers={"id": {"a": 1}}),
    "an id with NUL": text(ARGUMENTS, headers={"id": "a\0b"}),
    "an id with a lone surrogate": text(ARGUMENTS, headers={"id": "\ud800"}),
    "an unknown task": text(ARGUMENTS, headers={"task": "nobody.knows"}),
    "a body that is an object": text(body={"a": SECRET}),
    "a body that is a number": text(body=5),
    "a body of two": text(body=[[], ARGUMENTS]),
    "a body without kwargs": text(body=[[], [SECRET], {}]),
    "a body without args": text(body=[{}, ARGUMENTS, {}]),
    "an embed that is text": text(body=[[], ARGUMENTS, SECRET]),
    "an embed that names the id": text(body=[[], ARGUMENTS, {"id": "other"}]),
    "a chain": text(body=[[], ARGUMENTS, {"chain": [{"task": "crawler.frames"}]}]),
    "truncated JSON": text(body=json.dumps([[], ARGUMENTS, {}]).encode()[:-5]),
    "an empty body": text(body=b""),
    "a body of bytes": text(body=b"\x80\x02" + SECRET.encode()),
    "a deep body": text(body=nested(400)),
    "a deeper body": text(body=nested(950)),
    "a body without end": text(body=nested(100_000)),
    "bad base64": text(body=b"").replace(b'"body": ""', b'"body": "abc"'),
    "an unknown body_encoding": text(ARGUMENTS, properties={"body_encoding": "rot13"}),
    "a body_encoding that is a number": text(ARGUMENTS, properties={"body_encoding": 5}),
    "pickle": text(
        body=pickle.dumps([[], ARGUMENTS, {}]), **{"content-type": "application/x-python-serialize"}
    ),
    "an unknown content-type": text(ARGUMENTS, **{"content-type": "text/secret"}),
    "a content-type that is a list": text(ARGUMENTS, **{"content-type": ["application/json"]}),
    "an unknown content-encoding": text(ARGUMENTS, **{"content-encoding": "klingon"}),
    "a content-encoding that is a number": text(ARGUMENTS, **{"content-encoding": 5}),
}

HARMLESS = {
    "a timelimit that is a number": text(headers={"timelimit": 5}),
    "a timelimit of a microsecond": text(headers={"timelimit": [1e-6, 1e-6]}),
    "an eta in ten years": text(headers={"eta": "2036-01-01T00:00:00Z"}),
    "an eta that is a list": text(headers={"eta": ["x"]}),
    "expired long ago": text(headers={"expires": "2001-01-01T00:00:00Z"}),
    "expires that is an object": text(headers={"expires": {"a": 1}}),
    "retries that are text": text(headers={"retries": "x"}),
    "retries below zero": text(headers={"retries": -1000}),
    "stamps that are a number": text(headers={"stamped_headers": 5, "stamps": 5}),
    "a shadow that is a list": text(headers={"shadow": ["x"]}),
    "an unknown compression": text(headers={"compression": "middle-out"}),
    "a __type__ in the headers": text(headers={"x": {"__type__": "nonsense", "__value__": 1}}),
    "a __type__ in the arguments": text({"frames": [{"__type__": "nonsense", "__value__": 1}]}),
    "a datetime in the arguments": text({"frames": [{"__type__": "datetime", "__value__": "x"}]}),
    "a lone surrogate": text({"frames": ["\ud800"]}),
    "NUL": text({"frames": ["\0"]}),
    "NaN": text(body=b'[[], {"frames": [NaN]}, {}]'),
    "a key twice": text(body=b'[[], {"frames": [1], "frames": [2]}, {}]'),
    "nested, but not too deep": text(body=nested(190)),
    "ten megabytes": text({"frames": ["x" * 10_000_000]}),
    "no delivery tag": text(properties={"delivery_tag": None}),
    "a delivery tag that is a list": text(properties={"delivery_tag": [1]}),
    "delivery info that is text": text(properties={"delivery_info": "x"}),
    "a foreign routing key": text(properties={"delivery_info": {"exchange": "x", "routing_key": "y"}}),
    "an endless priority": text(properties={"priority": float("inf")}),
    "a plain body": json.dumps(
        envelope("crawler.frames") | {"body": "[[], {}, {}]", "properties": {}}
    ).encode(),
    "no embed": text(body=[[], {}, None]),
}


@pytest.fixture(scope="module")
def app() -> str:
    """The app under test."""
    return "support.processes.worker_app"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The server of all tests that need none of their own."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    with running(server):
        yield server


@pytest.fixture(scope="module")
def worker(app: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all tests: it must survive every message."""
    process = Worker(app, valkey.url, tmp_path_factory.mktemp("worker") / "log")
    with running(process):
        yield process


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server for a test that starts and ends workers of its own."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


@pytest.fixture(autouse=True)
def nothing_noted(valkey: Valkey) -> None:
    """Each test sees only the notes of its own messages."""
    valkey.client.delete("kept", "seen", "no_database", "refused")


def notes(valkey: Valkey, name: str) -> list[dict[str, Any]]:
    """The notes that the app wrote."""
    return [json.loads(note) for note in valkey.client.lrange(name, 0, -1)]


def is_settled(valkey: Valkey) -> bool:
    """True if no message waits, and none is unacknowledged."""
    return not valkey.client.exists("crawler", "unacked", "unacked_index")


def assert_consumes(valkey: Valkey, worker: Worker) -> None:
    """Check that the worker lives, processes another message, and has acknowledged all messages."""
    marker = text({"frames": ["marker"]})
    valkey.client.lpush("crawler", marker)
    wait_until(
        lambda: {"frames": ["marker"]} in [n["kwargs"] for n in notes(valkey, "seen")], "the next is seen"
    )
    wait_until(lambda: is_settled(valkey), "all is acknowledged")
    assert worker.lives()


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_message_is_rejected_and_the_worker_continues(
    kind: str, valkey: Valkey, worker: Worker
) -> None:
    """The message is stored once and acknowledged, and no other message is lost."""
    valkey.client.lpush("crawler", MALFORMED[kind])

    assert_consumes(valkey, worker)
    [kept] = notes(valkey, "kept")
    assert kept["reason"] == ("unknown_task" if kind == "an unknown task" else "malformed")
    assert SECRET not in json.dumps({**kept, "payload": None})
    assert len(notes(valkey, "seen")) == 1


@pytest.mark.parametrize("kind", HARMLESS)
def test_an_unusual_but_valid_message_reaches_its_task(kind: str, valkey: Valkey, worker: Worker) -> None:
    """Foreign times, delivery information and retries are dropped, and the message is processed at once."""
    valkey.client.lpush("crawler", HARMLESS[kind])

    assert_consumes(valkey, worker)
    assert notes(valkey, "kept") == []
    assert len(notes(valkey, "seen")) == 2


def test_arguments_arrive_as_they_were_sent(valkey: Valkey, worker: Worker) -> None:
    """An object that looks like kombu's encoding of a type stays an object."""
    frames = [{"__type__": "datetime", "__value__": "2026-01-01T00:00:00"}, "\ud800", "\0"]
    valkey.client.lpush("crawler", text({"frames": frames}))

    assert_consumes(valkey, worker)
    assert notes(valkey, "seen")[0]["kwargs"] == {"frames": frames}


def test_a_malformed_message_is_stored_readably(valkey: Valkey, worker: Worker) -> None:
    """The task, id and arguments of an unknown task's message are stored, and the body of a malformed one."""
    unknown = envelope("nobody.knows", ARGUMENTS)
    disguised = text(ARGUMENTS, **{"content-type": "text/secret"})
    valkey.client.lpush("crawler", json.dumps(unknown), disguised)

    assert_consumes(valkey, worker)
    first, second = notes(valkey, "kept")
    assert (first["task"], first["message_id"]) == ("nobody.knows", unknown["headers"]["id"])
    assert first["payload"] == {"args": [], "kwargs": ARGUMENTS}
    assert second["message_id"] == json.loads(disguised)["headers"]["id"]
    assert second["payload"]["body"] == [[], ARGUMENTS, {}]


def test_bytes_that_are_not_text_are_not_stored(valkey: Valkey, worker: Worker) -> None:
    """No redaction recognizes the secrets in a pickled body, so only its length is stored."""
    body = pickle.dumps([[], {"access_token": "Zq7-0123456789-qZ7w"}, {}])
    pickled = {"content-type": "application/x-python-serialize"}
    plain = pickle.dumps([[], {"access_token": "Zq7-0123456789-qZ7w"}, {}], protocol=0)
    bare = json.dumps({"body": base64.b64encode(body).decode(), "content-type": "application/json"})
    valkey.client.lpush("crawler", text(body=body), text(body=body, **pickled), body)
    valkey.client.lpush("crawler", text(body=plain, **pickled), bare)

    assert_consumes(valkey, worker)
    kept = notes(valkey, "kept")
    lengths = [*[len(body)] * 3, len(plain), len(base64.b64encode(body))]
    assert [n["payload"] if isinstance(n["payload"], str) else n["payload"]["body"] for n in kept] == [
        f"[{length:,} bytes that are not text]" for length in lengths
    ]
    assert "Zq7" not in json.dumps(kept)
    assert base64.b64encode(body).decode() not in json.dumps(kept)


def test_no_log_repeats_a_malformed_message(valkey: Valkey, worker: Worker) -> None:
    """A token in a malformed message does not reach the logs, even at level DEBUG."""
    valkey.client.lpush("crawler", *MALFORMED.values())

    assert_consumes(valkey, worker)
    encoded = base64.b64encode(SECRET.encode()).decode().rstrip("=")
    assert len(notes(valkey, "kept")) == len(MALFORMED)
    assert "message_rejected" in worker.output()
    assert SECRET not in worker.output()
    assert encoded not in worker.output()


def queued_or_unacknowledged(valkey: Valkey) -> int:
    """The number of messages that are queued or unacknowledged, at one moment."""
    with valkey.client.pipeline(transaction=True) as moment:
        return sum(moment.hlen("unacked").llen("crawler").execute())


def test_without_a_database_nothing_is_acknowledged(app: str, own_valkey: Valkey, tmp_path: Path) -> None:
    """A malformed message waits for the database, is requeued after database_wait, and is stored in the end."""
    own_valkey.client.set("no_database", 1)
    own = Worker(app, own_valkey.url, tmp_path / "log", CRAWLYARD_DATABASE_WAIT="1.2")
    with running(own):
        own_valkey.client.lpush("crawler", MALFORMED["no JSON"])
        wait_until(lambda: int(own_valkey.client.get("refused") or 0) >= 4, "it was requeued and tried again")
        wait_until(lambda: queued_or_unacknowledged(own_valkey) == 1, "it is queued or unacknowledged")
        assert "message_requeued" in own.output()
        assert "message_rejected" not in own.output()

        own_valkey.client.delete("no_database")
        wait_until(lambda: notes(own_valkey, "kept"), "it is stored")
        wait_until(lambda: is_settled(own_valkey), "it is acknowledged")
    assert [n["payload"] for n in notes(own_valkey, "kept")] == [MALFORMED["no JSON"].decode()]


def test_a_worker_killed_while_waiting_returns_the_message(
    app: str, own_valkey: Valkey, tmp_path: Path
) -> None:
    """A malformed text survives its worker, and the next worker stores the original."""
    own_valkey.client.set("no_database", 1)
    first = Worker(app, own_valkey.url, tmp_path / "first")
    own_valkey.client.lpush("crawler", MALFORMED["no JSON"])
    wait_until(lambda: own_valkey.client.get("refused"), "it waits")
    first.close()
    assert own_valkey.client.llen("crawler") == 1
    own_valkey.client.delete("no_database")

    second = Worker(app, own_valkey.url, tmp_path / "second")
    with running(second):
        wait_until(lambda: notes(own_valkey, "kept"), "it is stored")
    assert [n["payload"] for n in notes(own_valkey, "kept")] == [MALFORMED["no JSON"].decode()]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_threads_and_solo_pools_survive_too(pool: str, app: str, own_valkey: Valkey, tmp_path: Path) -> None:
    """The other pools also reject malformed messages and process unusual ones."""
    own = Worker(app, own_valkey.url, tmp_path / "log", pool=pool)
    with running(own):
        own_valkey.client.lpush("crawler", *MALFORMED.values(), *HARMLESS.values())
        assert_consumes(own_valkey, own)
    assert len(notes(own_valkey, "kept")) == len(MALFORMED)
    assert len(notes(own_valkey, "seen")) == len(HARMLESS) + 1
