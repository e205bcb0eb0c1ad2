"""The messages' texts are Celery's, and hold the frames' own bytes."""

import base64
import json

from ulid import ULID

from gateway.links.link import FRAME_BYTES
from gateway.reports.broker import envelope
from gateway.reports.message import Message, batch, frame_item
from persistence.schema.ids import ConnectionId
from support.gateway.reports import Bench
from tasks.contract.payloads import CONTRACT
from tasks.runtime.reading.large_items import MAX_ITEM_BYTES
from tasks.worker.envelope import read

RAW = b'{"type": "job_started","jobId":"01J8ZQ3V9M6N7P8R9S0T1V2W3X",  "timestamp":"2026-05-01T12:00:00Z"}'


def test_a_worker_reads_the_envelope_and_its_frames() -> None:
    """With the deployment that it asks for; the frame's bytes are not written again."""
    message = Message("crawler.frames", batch("frames", [frame_item(ConnectionId("C"), RAW)] * 2))

    found = read(envelope(message, "crawler", {"lang": "py", "origin": "east", "deployment": "blue"}))

    body = base64.b64decode(found["body"])
    assert body.count(RAW) == 2
    args, kwargs, _ = json.loads(body)
    assert args == []
    CONTRACT["crawler.frames"].model_validate(kwargs)
    assert kwargs["frames"][1] == {"connection_id": "C", "frame": json.loads(RAW)}
    headers = found["headers"]
    assert (headers["id"], headers["task"], headers["deployment"]) == (message.id, "crawler.frames", "blue")


def test_slow_workers_get_fewer_messages() -> None:
    """Items are collected for a quarter of the time that a message takes; for 20 ms again once workers are quick."""
    bench = Bench()
    waits = []
    for lag in [0.02] * 20 + [0.4] * 20 + [9.0] * 20 + [0.02] * 60:
        bench.say("C", "job_progress", "a")
        (message,) = bench.publish()
        bench.workers.handle(message)
        bench.now += lag
        bench.look_up()
        waits.append(bench.reports.collect_s)

    assert [round(waits[n], 2) for n in (19, 39, 59, 119)] == [0.02, 0.1, 0.25, 0.02]


def test_the_largest_frame_is_an_item_that_workers_take() -> None:
    """With the id of its connection around it."""
    assert len(frame_item(str(ULID()), b" " * FRAME_BYTES)) <= MAX_ITEM_BYTES
