"""An item of a batch that is too large is taken out before anything is parsed; the others are read as they are."""

import json
from typing import Any

import pytest

from support.worlds.world import World
from tasks.runtime.reading.body import Body
from tasks.runtime.reading.large_items import MAX_ITEM_BYTES, take_large_items

LARGE = {"text": 'a "quoted" [bracket] \\ ' * 60_000}
LISTS = {"lists": [[0, 0]] * 150_000}
LARGEST = {"text": "x" * (MAX_ITEM_BYTES - len('{"text": ""}'))}


def dumped(value: object) -> bytes:
    """The bytes of JSON as they are sent."""
    return json.dumps(value).encode()


@pytest.mark.parametrize("large", [LARGE, LISTS, [LARGE]])
@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "by position"])
def test_only_the_large_items_are_taken_out(large: Any, by_name: object) -> None:
    """The others keep their order, whatever their strings contain; one of just 1 MiB is none of them."""
    small = [{"n": 1, "text": '"}]{\\'}, LARGEST, 5, "text", [[{"deep": []}]]]
    items = [small[0], large, *small[1:], large]
    body = [[], {"frames": items, "other": LARGE}, {}] if by_name else [[items, LARGE], {}, {}]

    args, kwargs, taken = Body(dumped(body)).read()

    assert (args, kwargs) == (([], {"frames": small, "other": LARGE}) if by_name else ([small, LARGE], {}))
    assert taken == [dumped(large)] * 2


@pytest.mark.parametrize(
    "text", [b"]" * 2**21, b"[" * 2**21, b'"' + b"\\" * 2**21, b'["\\"' * 2**19, b"\xff" * 2**21]
)
def test_a_text_that_is_no_json_passes_unchanged(text: bytes) -> None:
    """The parser refuses it later."""
    assert take_large_items(text)[:2] == (text, [])


def test_a_large_frame_costs_the_others_nothing(world: World) -> None:
    """It alone is rejected, once, and the frames beside it are applied."""
    crawler, (order,) = world.crawler_with_jobs()
    large = crawler.frame("job_failed", order, error="x" * MAX_ITEM_BYTES)
    frames = [large, crawler.frame("job_completed", order, success=True, finalCounts={"issue": 10})]
    for _ in range(2):
        body = Body(dumped([[], {"frames": frames}, {}]))
        world.app.tasks["crawler.frames"].apply(args=[body], task_id="one", throw=True)

    [kept] = world.rows("SELECT task, reason, detail, message_id, payload FROM rejected_message")
    assert (kept.task, kept.reason, kept.message_id) == ("crawler.frames", "too_large", "one")
    assert kept.detail == f"an item of {len(dumped(large)):,} bytes, more than 1,048,576"
    assert [status for (status,) in world.rows("SELECT status FROM job")] == ["finished"]


def test_a_body_that_cannot_be_read_is_kept_by_the_task(world: World) -> None:
    """The main process has not looked at it."""
    for raw in (b"no JSON", b"[[], [], {}]", b"[" + b"[]," * 600_000 + b"[]]"):
        world.app.tasks["jobs.assign"].apply(args=[Body(raw)], throw=True)

    assert world.rejections() == [
        ("jobs.assign", "malformed"),
        ("jobs.assign", "malformed"),
        ("jobs.assign", "too_large"),
    ]
