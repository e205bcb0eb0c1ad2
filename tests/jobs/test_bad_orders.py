"""Orders that cannot be accepted: each is rejected by itself, with its reason and without its secrets."""

import random
from typing import Any

import pytest

from support.worlds.world import World

TOKEN = "glpat-zyxwvutsrq9876543210"

DEEP: dict[str, Any] = {}
for _ in range(40):
    DEEP = {"deeper": DEEP}

BAD: dict[str, dict[str, Any]] = {
    "an unknown field": {"colour": "red"},
    "no account": {"account_id": None},
    "an empty id": {"web_app_job_id": ""},
    "an id too long": {"web_app_job_id": "x" * 65},
    "an unknown provider": {"provider": "github"},
    "an unknown command": {"command": "everything"},
    "an unknown job_type": {"command": None, "job_type": "crawl_moon"},
    "neither command nor job_type": {"command": None},
    "both command and job_type": {"job_type": "crawl_project"},
    "the web app's own command": {"command": "authorizationScope"},
    "no host": {"gitlab_host": ""},
    "a host of another scheme": {"gitlab_host": "ftp://gitlab.example.org"},
    "a host with credentials": {"gitlab_host": f"https://oauth2:{TOKEN}@gitlab.example.org"},
    "a host that is no URL": {"gitlab_host": "https://[gitlab"},
    "a priority beyond all use": {"priority": 3_000_000_000},
    "a priority that is text": {"priority": "1"},
    "a priority that is a truth": {"priority": True},
    "a path too long": {"namespace_path": "x" * 1001},
    "an empty path": {"namespace_path": ""},
    "NUL in a path": {"namespace_path": "group/\x00"},
    "a lone surrogate in a branch": {"branch": "\ud800"},
    "too many tags": {"tags": ["tag"] * 101},
    "tags that are no texts": {"tags": [1]},
    "NaN in metadata": {"metadata": {"n": float("nan")}},
    "NUL in metadata": {"metadata": {"a\x00": 1}},
    "metadata too deep": {"metadata": DEEP},
    "metadata too large": {"metadata": {"many": [0] * 20_001}},
    "an integer beyond 64 bits": {"metadata": {"n": 2**63}},
    "metadata that is a list": {"metadata": []},
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_order_is_rejected_alone(world: World, fault: str) -> None:
    """It is stored with its reason, and the valid orders beside it are applied."""
    before, after = world.order(), world.order()

    world.submit(before, world.order(**BAD[fault]), after)

    assert world.rejections() == [("jobs.submit", "invalid")]
    assert world.scalar("SELECT detail FROM rejected_message") != ""
    assert {id_ for (id_,) in world.rows("SELECT id FROM job")} == {
        before["web_app_job_id"],
        after["web_app_job_id"],
    }
    assert world.published.messages == [("jobs.assign", {})]


@pytest.mark.parametrize("item", [None, "order", 7, [], {}])
def test_an_item_that_is_not_an_order_is_rejected_alone(world: World, item: object) -> None:
    """An item of any other type is stored as rejected."""
    world.deliver("jobs.submit", orders=[item, world.order()])

    assert world.rejections() == [("jobs.submit", "invalid")]
    assert world.scalar("SELECT count(*) FROM job_queue") == 1


def test_an_order_with_an_access_token_is_rejected_and_the_token_is_not_stored(world: World) -> None:
    """Orders had a token in an older format; tokens are in `account` only."""
    message = f"failed with {TOKEN}"
    world.submit(
        world.order(access_token=TOKEN),
        world.order(metadata={"access_token": TOKEN, "note": message}, colour=1),
    )

    assert world.rejections() == [("jobs.submit", "invalid")] * 2
    assert world.scalar("SELECT count(*) FROM job") == 0
    kept = world.scalar("SELECT payload FROM rejected_message WHERE payload ? 'access_token'")
    assert kept["access_token"] == "[redacted]"
    assert kept["command"] == "project"
    stored = world.scalar("SELECT string_agg(r::text, ' ') FROM rejected_message r")
    assert TOKEN not in stored


def test_an_order_refused_only_by_the_database_is_rejected_alone(world: World) -> None:
    """A path within our bounds may still be too long for an index: the batch is bisected until it is found."""
    random_ = random.Random(3)
    # astral and without a pattern, or it would be compressed
    too_long = ["".join(chr(random_.randint(0x20000, 0x2A000)) for _ in range(1000)) for _ in range(2)]
    good = [world.order() for _ in range(9)]
    culprits = [world.order(namespace_path=path) for path in too_long]

    world.submit(*good[:2], culprits[0], *good[2:7], culprits[1], *good[7:])

    assert world.rejections() == [("jobs.submit", "refused_by_database")] * 2
    details = [detail for (detail,) in world.rows("SELECT detail FROM rejected_message")]
    assert all("54000" in detail for detail in details)
    assert {id_ for (id_,) in world.rows("SELECT id FROM job")} == {order["web_app_job_id"] for order in good}
    assert world.scalar("SELECT count(*) FROM job_queue") == 9
    assert len(world.events("job_created")) == 9
    assert world.published.messages == [("jobs.assign", {})]


def test_orders_of_unknown_owners_are_rejected_and_the_others_applied(world: World) -> None:
    """An unknown account or user rejects its own order and does not abort the batch."""
    world.rows("INSERT INTO \"user\" (id) VALUES ('ann')")
    good, bad_account, bad_user = (
        world.order(user_id="ann"),
        world.order(account_id="nobody"),
        world.order(user_id="bob"),
    )

    world.submit(bad_account, good, bad_user)

    assert [id_ for (id_,) in world.rows("SELECT id FROM job")] == [good["web_app_job_id"]]
    assert world.job(good["web_app_job_id"]).userId == "ann"
    assert sorted(world.rejections()) == [("jobs.submit", "unknown_account"), ("jobs.submit", "unknown_user")]
