"""Frames of protocol 1, in and out."""

import json

import pytest

from gateway.wire import answers
from gateway.wire.protocol_1 import RefusedFrameError, parse
from persistence.orders.hand_over import Order
from persistence.schema.ids import ConnectionId
from tasks.contract.protocol_1 import GATEWAY_FRAME

CONNECTION = ConnectionId("01KB7PZX0000000000000000C1")
ORDER = Order(
    *(
        "01KB7Q010000000000000000J1",
        CONNECTION,
        "acc",
        "project",
        "project",
        "42",
        "https://gitlab.example.org",
    ),
    *({"currentPage": 2}, (), "token"),
)

ANSWERS = [
    answers.welcome(CONNECTION, f"{CONNECTION}.session-0123456789", [ORDER], 30, 2**20),
    answers.job_response([ORDER]),
    answers.job_revoked(ORDER.crawler_job_id, "Cancelled"),
    answers.ack("1"),
    answers.error("invalid", "data.processed: must be a number", closes=False, id_="1"),
    answers.error("held_off", "too often", closes=True, retry_after=2),
    answers.shutdown(5, 0.25, "the gateway is stopped"),
    answers.ping("a"),
    answers.pong("a"),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: json.loads(answer)["type"])
def test_what_a_gateway_says_is_as_specified(answer: bytes) -> None:
    """Every frame fits its schema, and is one line."""
    assert GATEWAY_FRAME.validate_json(answer)
    assert b"\n" not in answer


def test_an_order_without_resume_state_says_nothing_of_one() -> None:
    """Crawlers that look whether the field is there are not misled; the token is a text, be it that there is none."""
    bare = Order(*(CONNECTION, CONNECTION, "acc", "project", "project", "42", None, None, (), None))
    (job,) = json.loads(answers.job_response([bare]))["data"]["jobs"]

    assert "resumeState" not in job
    assert job["accessToken"] == ""


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type": "goodbye"}',
        b'{"type": "pong", "data": null}',
        b'{"type": "of-the-future", "jobId": 5, "data": {"deep": [[1]]}}',
        b'{"type": "job_completed", "jobId": "J", "timestamp": "2026-11-29T09:00:00Z"}',
        b'{"type": "job_started", "jobId": "J", "timestamp": "2026-11-29T09:00:00"}',
    ],
)
def test_what_may_be_left_out_may_be_left_out(frame: bytes) -> None:
    """Data, and the fields of types that are not known."""
    assert parse(frame).data == ({"deep": [[1]]} if b"future" in frame else {})


@pytest.mark.parametrize("id_", ["", "x" * 65, 5, ["1"]])
def test_an_id_that_cannot_be_acknowledged_is_refused(id_: object) -> None:
    """Nobody could forget its frame."""
    with pytest.raises(RefusedFrameError, match="id: must be"):
        parse(json.dumps({"type": "job_started", "id": id_}).encode())


def test_a_refusal_quotes_nothing_but_the_field() -> None:
    """What a crawler sends may be a secret, and its error may be logged."""
    secret = "cyc_secret"
    frame = {
        "type": "job_failed",
        "jobId": "J",
        "timestamp": "2026-11-29T09:00:00Z",
        "data": {"error": [secret]},
    }
    with pytest.raises(RefusedFrameError) as refused:
        parse(json.dumps(frame).encode())

    assert "data.error" in str(refused.value)
    assert secret not in str(refused.value)
    assert secret not in repr(refused.value)
