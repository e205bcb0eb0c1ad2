"""Any text in a queue becomes a harmless message, and none is lost."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from kombu.message import Message

from persistence.sanitize.json_values import STORED_BYTES, storable
from proofs.fuzz.envelopes import texts
from proofs.fuzz.mutations import SECRET
from support.depth import deep
from support.processes.workers import Valkey, Worker, envelope, received_from, running, wait_until
from tasks.runtime.reading.body import Body, BodyRefusedError
from tasks.runtime.reading.readable import READABLE_BYTES, readable_body
from tasks.worker import serialization
from tasks.worker.consumer import _rejected as rejected
from tasks.worker.consumer import admit
from tasks.worker.envelope import MalformedError, seal
from tasks.worker.envelope import _unwrap_old as unwrapped
from tasks.worker.records import WRAPPED, put_back, record_of

pytestmark = pytest.mark.timeout(1800 if deep() else 120)

FUZZED = settings(
    max_examples=5000 if deep() else 400,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)

HEADERS = {
    "lang",
    "task",
    "id",
    "root_id",
    "parent_id",
    "origin",
    "redelivered",
    "retries",
    "deliveries",
    "deployment",
}

serialization.register()


def is_admitted(message: Message) -> bool:
    """Return True if the message reaches a task; any error but MalformedError fails the test."""
    try:
        admit(message, {"crawler.frames"})
    except MalformedError:
        return False
    return True


def test_every_text_becomes_a_harmless_message() -> None:
    """A text gets our own delivery properties, whatever it was; a malformed one is kept whole."""

    @FUZZED
    @given(texts())
    def check(text: bytes) -> None:
        sealed = json.loads(seal(text, "crawler"))
        assert sealed["properties"].pop("delivery_tag")
        assert sealed["properties"] == {
            "delivery_info": {"exchange": "", "routing_key": "crawler"},
            "body_encoding": "base64",
        }
        assert sealed.keys() == {"body", "content-type", "content-encoding", "headers", "properties"}
        if sealed["content-type"] == WRAPPED:
            assert base64.b64decode(sealed["body"]) == unwrapped(text)[: READABLE_BYTES + 1]
            assert sealed["headers"].keys() == {"reason", "detail", "id"}
        else:
            assert sealed["headers"].keys() == HEADERS
            assert 0 <= sealed["headers"]["retries"] <= 1000

    check()


def test_resealing_a_text_changes_nothing() -> None:
    """A redelivered message is read as it was the first time."""

    @FUZZED
    @given(texts())
    def check(text: bytes) -> None:
        first = json.loads(seal(text, "crawler"))
        queue, redelivered = put_back(record_of(text, "crawler"), died=False)
        again = json.loads(seal(redelivered, queue))
        assert first["properties"].pop("delivery_tag") != again["properties"].pop("delivery_tag")
        if "task" in first["headers"]:
            first["headers"]["redelivered"] = True
        assert again == first

    check()


def test_a_message_reaches_a_task_or_is_rejected_without_its_secret(services: object) -> None:
    """A message is admitted or refused by us, and a refused one can be stored without its secret."""

    @FUZZED
    @given(texts())
    def check(text: bytes) -> None:
        message = received_from(seal(text, "crawler"))
        if is_admitted(message):
            assert message.payload == ([], {}, {})
            try:
                args, kwargs, _ = Body(message.body).read()
            except BodyRefusedError:
                kept = readable_body(message.body)
            else:
                assert (type(args), type(kwargs)) == (list, dict)
                return
        else:
            kept = rejected(message, "malformed", "").payload
        payload = json.dumps(storable(kept), ensure_ascii=False, allow_nan=False)
        assert SECRET not in payload
        assert len(payload.encode()) <= STORED_BYTES

    check()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test itself."""
    server = Valkey(tmp_path)
    with running(server):
        yield server


def some_texts(count: int) -> list[bytes]:
    """Return *count* texts."""
    found: list[bytes] = []

    @settings(FUZZED, max_examples=count, phases=[Phase.generate])
    @given(texts())
    def collect(text: bytes) -> None:
        found.append(text)

    collect()
    return found


@pytest.mark.programs
def test_a_worker_consumes_good_messages_between_hundreds_of_others(valkey: Valkey, tmp_path: Path) -> None:
    """A worker processes good messages in order, and each text is seen by a task or kept, once."""
    queue = []
    for place, text in enumerate(some_texts(2_000 if deep() else 300)):
        queue += [text, json.dumps(envelope("crawler.frames", {"marker": place})).encode()]
    worker = Worker("support.processes.worker_app", valkey.url, tmp_path / "log")
    with running(worker):
        for text in queue:
            valkey.client.lpush("crawler", text)
        # A message that was just popped is in neither list, so empty lists alone do not mean that all is done.
        wait_until(
            lambda: sum(map(valkey.client.llen, ("seen", "kept"))) >= len(queue), "all is done", patience=600
        )
        wait_until(lambda: not valkey.client.exists("crawler", "unacked"), "all is acknowledged")
        assert worker.lives()

    seen = [json.loads(note)["kwargs"] for note in valkey.client.lrange("seen", 0, -1)]
    assert [kwargs["marker"] for kwargs in seen if "marker" in kwargs] == list(range(len(queue) // 2))
    assert len(seen) + valkey.client.llen("kept") == len(queue)
