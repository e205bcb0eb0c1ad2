"""`crawlyard areas changes`: what is proposed is listed, and a decision is published as a task."""

import base64
import json
from typing import Any

import pytest
import redis

from support.command import Run
from support.worlds.discoveries import Discoverer, project
from support.worlds.world import World

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAX"


@pytest.fixture
def proposed(world: World) -> Any:
    """A proposed change: `team/tool` (42) of `other` was found at `lab/tool`."""
    world.account("other")
    Discoverer.at_work(world, account="other").finds(project("team/tool", 42))
    Discoverer.at_work(world).finds(project("lab/tool", 42), at="2026-05-04T03:02:09Z")
    return world.row("SELECT * FROM area_change")


def test_proposed_changes_are_listed(world: World, run: Run, proposed: Any) -> None:
    """Output is text or JSON; decided ones are listed with --all alone."""
    (listed,) = run("areas", "changes", "--json").json
    assert (listed["id"], listed["status"], listed["account_id"]) == (proposed.id, "proposed", "acc")
    assert (listed["full_path"], listed["former_path"]) == ("lab/tool", "team/tool")
    assert (listed["gitlab_id"], listed["crawler_credential"]) == ("gid://gitlab/Project/42", None)
    assert proposed.id in run("areas", "changes").out

    world.deliver("areas.decide", change_ids=[proposed.id], accept=False)

    assert run("areas", "changes", "--json").json == []
    assert run("areas", "changes").out == "No change of an area is proposed.\n"
    (listed,) = run("areas", "changes", "--all", "--json").json
    assert (listed["status"], listed["decided_at"] is None) == ("rejected", False)


@pytest.mark.parametrize(("verb", "accept"), [("accept", True), ("reject", False)])
def test_a_decision_is_published(
    broker: str, run: Run, monkeypatch: pytest.MonkeyPatch, *, verb: str, accept: bool
) -> None:
    """Several changes may be decided by one message; an id that is none is refused."""
    monkeypatch.setenv("BROKER_URL", broker)

    published = run("areas", "changes", verb, UNKNOWN, "--json").json
    refused = run("areas", "changes", verb, "nothing")

    assert published["payload"] == {"change_ids": [UNKNOWN], "accept": accept}
    with redis.Redis.from_url(broker) as client:
        (message,) = map(json.loads, client.lrange("dispatch", 0, -1))
    assert message["headers"]["task"] == "areas.decide"
    assert json.loads(base64.b64decode(message["body"]))[1] == published["payload"]
    assert refused.code == 2
