"""Only the parts of a foreign text that a worker needs reach it, in a safe form."""

import base64
import json
from typing import Any

import pytest

from support.processes.workers import envelope
from tasks.worker.envelope import MAX_DEPTH, MalformedError, check_body, seal


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
    with pytest.raises(MalformedError):
        check_body(body)


def test_a_body_is_passed_on_unchanged() -> None:
    """The body is read as plain JSON, without kombu's type objects."""
    kwargs = {"__type__": "datetime", "__value__": "never", "text": "\\u0000"}

    body = json.loads(base64.b64decode(sealed(body=[[], kwargs, {}])["body"]))

    assert body == [[], kwargs, {}]
    check_body(body)
