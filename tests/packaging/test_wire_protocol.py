"""docs/wire-protocol.md has every frame with every field, and its examples are valid by the JSON Schemas."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydantic import TypeAdapter

from console.commands.contract import schema
from support.wire.transcript import CRAWLER, GATEWAY, PAGE, REMARK, transcript
from tasks.contract.frames import JobsDiscoveredFrame

TEXT = PAGE.read_text(encoding="utf-8")
CRAWLER_SCHEMA = schema("protocol_1.crawler")
GATEWAY_SCHEMA = schema("protocol_1.gateway")
OLDER = {"discovery"}
"""Types that are taken, and that new crawlers have no use for."""


def frames_of(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schemas of the frames of one side, by type."""
    models = {
        kind: found["$defs"][ref.rsplit("/", 1)[1]] for kind, ref in found["discriminator"]["mapping"].items()
    }
    return {kind: model for kind, model in models.items() if kind not in OLDER}


def fields_of(found: dict[str, Any], frame: dict[str, Any]) -> set[str]:
    """The names of the fields of a frame's data."""
    return set(found["$defs"][frame["properties"]["data"]["$ref"].rsplit("/", 1)[1]]["properties"])


@pytest.mark.parametrize(
    ("heading", "found"),
    [("From the crawler", CRAWLER_SCHEMA), ("From the gateway", GATEWAY_SCHEMA)],
    ids=["crawler", "gateway"],
)
def test_the_page_has_every_frame_with_its_fields(heading: str, found: dict[str, Any]) -> None:
    """One row for each frame, with the fields of its data; a check mark where it must have a jobId."""
    rows = dict(
        re.findall(r"^\| `(\w+)` \|(.*)$", TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0], re.MULTILINE)
    )
    frames = frames_of(found)
    assert set(frames) <= set(rows)
    missing = {(kind, field) for kind, frame in frames.items() for field in fields_of(found, frame)
               if f"`{field}`" not in rows[kind]}  # fmt: skip
    assert missing == set()
    assert {kind for kind, frame in frames.items() if "jobId" in frame["required"]} == {
        kind for kind, row in rows.items() if row.strip().startswith("✓")
    }


def test_the_frames_of_the_transcript_are_valid() -> None:
    """Each is valid by the schema of its side, and by that of the other side none is but a ping or a pong."""
    schemas = {CRAWLER: Draft202012Validator(CRAWLER_SCHEMA), GATEWAY: Draft202012Validator(GATEWAY_SCHEMA)}
    lines = [line for line in transcript() if line.side != REMARK]
    assert len(lines) > 25
    for line in lines:
        schemas[line.side].validate(line.frame)
        other = schemas[GATEWAY if line.side == CRAWLER else CRAWLER]
        assert other.is_valid(line.frame) == (line.frame["type"] in ("ping", "pong"))


def test_the_transcript_has_every_frame_that_a_life_can_have() -> None:
    """What it lacks is named here."""
    lines = [line for line in transcript() if line.side != REMARK]
    sent = {line.frame["type"] for line in lines if line.side == CRAWLER}
    received = {line.frame["type"] for line in lines if line.side == GATEWAY}
    assert set(frames_of(CRAWLER_SCHEMA)) - sent == {"token_refresh_request", "pong"}
    assert set(frames_of(GATEWAY_SCHEMA)) - received == {"shutdown", "ping"}


@pytest.mark.parametrize(
    "change",
    [{"protocol": 2}, {"n": -1}, {"n": "1"}, {"crawlerId": ""}, {"capacity": 1001}, {"activeJobs": [1]}],
    ids=str,
)
def test_a_hello_that_is_not_as_specified_is_refused(change: dict[str, Any]) -> None:
    """The schema of a crawler's frames has the bounds of the page."""
    hello = next(line.frame for line in transcript() if line.side == CRAWLER)
    with pytest.raises(ValidationError):
        Draft202012Validator(CRAWLER_SCHEMA).validate(hello | {"data": hello["data"] | change})


def test_unknown_fields_are_ignored() -> None:
    """The schemas say so too: a newer peer may send more."""
    hello = next(line.text for line in transcript() if line.side == CRAWLER)
    frame = json.loads(hello) | {"new": 1}
    frame["data"]["pools"] = ["a"]
    Draft202012Validator(CRAWLER_SCHEMA).validate(frame)


def test_names_with_underscores_may_be_written_in_camel_case() -> None:
    """Both spellings of a discovery mean the same; the schema names the one of the page."""
    frame = next(line.frame for line in transcript() if '"jobs_discovered"' in line.text)
    data = {"discoveredJobs": frame["data"]["discovered_jobs"], "discoverySummary": {"totalUsers": 1}}
    other = TypeAdapter(JobsDiscoveredFrame).validate_python(frame | {"data": data})
    assert other.digest == TypeAdapter(JobsDiscoveredFrame).validate_python(frame).digest
