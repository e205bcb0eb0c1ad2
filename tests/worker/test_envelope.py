"""Only the parts of a foreign text that a worker needs reach it, in a safe form."""

import base64
import json
from typing import Any

import pytest
from kombu.message import Message

from persistence.db.json_bounds import MAX_BYTES, MAX_DEPTH
from support.processes.workers import envelope
from tasks.app import app
from tasks.runtime.reading.body import Body, BodyRefusedError
from tasks.runtime.reading.readable import READABLE_BYTES
from tasks.worker.consumer import admit
from tasks.worker.envelope import MAX_TEXT_BYTES, seal
from tasks.worker.records import put_back
from tasks.worker.request import Request


def sealed(**changes: Any) -> dict[str, Any]:
    """A message of a producer in another language, as kombu gets it."""
    return dict(json.loads(seal(json.dumps(envelope("jobs.assign", **changes)).encode(), "dispatch")))


def test_times_of_other_clocks_are_dropped() -> None:
    """eta, expires and timelimit do not reach the worker."""
    times = {"eta": "2040-01-01T00:00:00Z", "expires": "2020-01-01T00:00:00Z", "timelimit": [1, 1]}

    headers = sealed(headers=times)["headers"]

    assert headers.keys().isdisjoint(times)
    assert headers["task"] == "jobs.assign"


def test_the_delivery_tag_and_destination_are_replaced() -> None:
    """Messages with equal tags would be confused; a foreign destination is a queue that no worker reads."""
    foreign = {"delivery_tag": "1", "delivery_info": {"exchange": "x", "routing_key": "y"}, "priority": 9}

    one, two = (sealed(properties=foreign)["properties"] for _ in range(2))

    assert one["delivery_info"] == {"exchange": "", "routing_key": "dispatch"}
    assert len({"1", one["delivery_tag"], two["delivery_tag"]}) == 3
    assert "priority" not in one


@pytest.mark.parametrize(("retries", "counted"), [(-1000, 0), (10**9, 0), (True, 0), ("2", 0), (2, 2)])
def test_a_message_cannot_choose_its_retry_count(retries: object, counted: int) -> None:
    """The worker counts how often a message killed its child; a producer cannot change that."""
    assert sealed(headers={"retries": retries})["headers"]["retries"] == counted


@pytest.mark.parametrize(
    "body",
    [
        [[], {}, {"callbacks": [{"task": "jobs.cancel"}]}],
        [[], {}, {"chord": 1}],
        [[], {}, {"other": None}],
        [[], []],
        {},
        [[json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)], {}, {}],
    ],
)
def test_a_body_with_callbacks_or_a_bad_shape_is_refused(body: object) -> None:
    """Callbacks, other shapes, and nesting too deep for a child are refused."""
    with pytest.raises(BodyRefusedError):
        Body(json.dumps(body).encode()).read()


def test_a_body_is_passed_on_unchanged() -> None:
    """The body is read as plain JSON, without kombu's type objects."""
    kwargs = {"__type__": "datetime", "__value__": "never", "text": "\\u0000"}

    body = Body(base64.b64decode(sealed(body=[[], kwargs, {}])["body"]))

    assert body.read() == ([], kwargs, [])


def test_the_main_process_parses_no_body(services: object) -> None:
    """Celery finds placeholders instead of arguments, and the child gets bytes."""
    envelope_ = sealed(body=b"not JSON at all")
    message = Message(
        body=base64.b64decode(envelope_["body"]),
        content_type=envelope_["content-type"],
        content_encoding=envelope_["content-encoding"],
        headers=envelope_["headers"],
        delivery_info=envelope_["properties"]["delivery_info"],
    )

    admit(message, app.tasks)
    app.loader.import_default_modules()
    request = Request(message, task=app.tasks["jobs.assign"], app=app)

    assert message.payload == ([], {}, {})
    assert request.body == ([Body(b"not JSON at all")], {}, None)
    assert request.content_type is None


def test_a_text_beyond_the_bound_is_not_parsed() -> None:
    """It is kept as too large, cut; a body of the largest size passes."""
    largest = [[], {"text": "x" * (MAX_BYTES - 22)}, {}]
    text = json.dumps(envelope("jobs.assign", body=largest)).encode()

    assert json.loads(seal(text, "dispatch"))["headers"]["task"] == "jobs.assign"
    refused = json.loads(seal(text + b" " * (MAX_TEXT_BYTES - len(text) + 1), "dispatch"))
    assert refused["headers"]["reason"] == "too_large"
    assert len(base64.b64decode(refused["body"])) == READABLE_BYTES + 1


def test_a_body_beyond_the_bound_is_refused_with_the_id_of_its_message() -> None:
    """The envelope can be read."""
    message = envelope("jobs.assign", body=b"x" * (MAX_BYTES + 1))

    refused = json.loads(seal(json.dumps(message).encode(), "dispatch"))["headers"]

    assert (refused["reason"], refused["id"]) == ("too_large", message["headers"]["id"])


def test_a_record_of_an_older_worker_is_put_back() -> None:
    """Its text is kombu's own."""
    message = sealed()

    queue, text = put_back(json.dumps([message, "", "upkeep"]).encode(), died=True)

    assert queue == "upkeep"
    assert json.loads(seal(text, queue))["headers"] == message["headers"] | {"redelivered": True}


@pytest.mark.parametrize("record", [b"", b"[]", b"[5, 6, 7]", b"[" * 1_000, b'[{}, "", ["x"]]', b"\xff"])
def test_a_record_that_cannot_be_read_is_put_back_as_a_text(record: bytes) -> None:
    """It is kept as malformed, and raises nothing in the worker that puts it back."""
    assert put_back(record, died=True) == ("dispatch", record)
