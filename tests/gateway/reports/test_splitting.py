"""A discovery beyond the workers' bounds is split, and its end waits until all of its parts are handled."""

import json
from typing import Any

import pytest

from gateway.reports.discovery import PART_BYTES, PART_ITEMS, split
from support.gateway.reports import Bench, kinds, said
from tasks.contract.payloads import SaidFrame
from tasks.runtime.reading.large_items import MAX_ITEM_BYTES

ENTITY = {"id": "1", "name": "x" * 200, "path": "group/" + "y" * 900}
JOB = {"job_type": "crawl_group", "entity_id": 7, "namespace_path": "group", "entity_name": "z" * 250}
TIME = "2026-05-01T12:00:00.25+02:00"


def parts_of(kind: str, data: dict[str, Any], timestamp: str = TIME) -> list[dict[str, Any]]:
    """The frames into which a discovery is split."""
    frame = said(kind, "a", data, timestamp)
    return [json.loads(part) for part in split(kind, frame.raw, json.loads(frame.raw))]


@pytest.mark.parametrize(
    ("kind", "name", "found", "rest"),
    [
        ("discovery", "entities", [ENTITY | {"id": str(n)} for n in range(3000)], {"entityType": "group"}),
        ("jobs_discovered", "discovered_jobs", [JOB] * 12_000, {"discovery_summary": {"total_groups": 9}}),
        ("jobs_discovered", "discoveredJobs", [JOB] * 12_000, {"discoverySummary": {"total_groups": 9}}),
    ],
    ids=["large", "many", "many, in the other spelling"],
)
def test_the_parts_are_within_the_bounds_and_hold_everything(
    kind: str, name: str, found: list[Any], rest: dict[str, Any]
) -> None:
    """In its order, each with a timestamp of its own; said again, the discovery is split in the same way."""
    parts = parts_of(kind, {name: found, **rest})

    assert [item for part in parts for item in part["data"].pop(name)] == found
    assert all(part["data"] == rest and part["jobId"] == "a" for part in parts)
    times = [part["timestamp"] for part in parts]
    assert times[:3] == [TIME, "2026-05-01T12:00:00.250001+02:00", "2026-05-01T12:00:00.250002+02:00"]
    assert len(set(times)) == len(times)
    for part in parts_of(kind, {name: found, **rest}):
        item = {"connection_id": "01M832QYNS120D5JJTXHN2XBNV", "frame": part}
        assert len(json.dumps(item)) <= MAX_ITEM_BYTES
        assert len(part["data"][name]) <= PART_ITEMS
        SaidFrame.model_validate(item)


def test_a_discovery_within_the_bounds_is_sent_as_it_is() -> None:
    """Its own bytes."""
    frame = said("discovery", "a", {"entityType": "group", "entities": [ENTITY]}, TIME)

    assert split("discovery", frame.raw, json.loads(frame.raw)) == [frame.raw]


@pytest.mark.parametrize(
    ("data", "timestamp"),
    [
        ({"entities": "x" * PART_BYTES}, TIME),
        ({"entities": {"n": ["x" * PART_BYTES]}}, TIME),
        ({"entities": [ENTITY] * 2000}, "yesterday"),
        ([], TIME),
    ],
    ids=["text", "object", "no time", "no object"],
)
def test_what_is_no_discovery_is_left_to_the_workers(data: Any, timestamp: str) -> None:
    """They reject it, with the reason."""
    assert len(parts_of("discovery", data, timestamp)) == 1


def test_one_item_beyond_the_bound_costs_the_others_nothing() -> None:
    """It has a part of its own, which a worker rejects."""
    large = ENTITY | {"name": "x" * MAX_ITEM_BYTES}

    parts = parts_of("discovery", {"entities": [ENTITY, large, ENTITY], "entityType": "group"})

    assert [len(part["data"]["entities"]) for part in parts] == [1, 1, 1]


def test_the_end_waits_for_all_parts() -> None:
    """One is sent after the other, and the discovery is acknowledged once."""
    bench = Bench()
    found = {"entityType": "group", "entities": [ENTITY] * 2000}
    bench.reports.add("C", said("discovery", "a", found, TIME), bench.acking("discovery"))
    bench.say("C", "job_completed", "a")

    for _ in range(3):
        [part] = bench.publish()
        assert (kinds(part), bench.acked) == (["discovery"], [])
        assert bench.publish() == []
        bench.workers.handle(part)
        bench.look_up()
    assert bench.acked == ["discovery"]
    assert [kinds(m) for m in bench.publish()] == [["job_completed"]]


def test_discoveries_of_one_attempt_do_not_travel_together() -> None:
    """Two workers that apply them would wait for each other's locks; those of another attempt do not wait."""
    bench = Bench()
    for name, job in (("1", "a"), ("2", "a"), ("3", "b")):
        found = {"entityType": "group", "entities": [ENTITY]}
        bench.reports.add("C", said("discovery", job, found, TIME), bench.acking(name))

    first, other = bench.publish()
    bench.workers.handle(other)
    bench.look_up()
    assert (bench.acked, bench.publish()) == (["3"], [])
    bench.workers.handle(first)
    bench.look_up()
    [second] = bench.publish()
    bench.workers.handle(second)
    bench.look_up()
    assert bench.acked == ["3", "1", "2"]
