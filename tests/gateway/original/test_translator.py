"""The original crawler against a gateway of protocol 1: what it cannot do itself is done for it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.listeners.addresses import read_addresses
from gateway.listeners.peer import Peer
from gateway.original import translator
from gateway.original.crawlers import OriginalCrawlers
from gateway.original.frames import encode, job_response
from support.gateway.listening import run, until
from support.wire.original import Listing
from support.wire.translated import area, order, translated

A, B = Listing([area("a/app", 1)]), Listing([area("b/app", 2)])


def test_it_is_offered_a_job_only_when_it_is_known_to_be_idle(tmp_path: Path) -> None:
    """It says nothing about that when it connects; its second request does."""

    async def test() -> None:
        async with translated(tmp_path, {"a": A}) as (gateway, crawler, _):
            [hello] = gateway.sent("hello")
            assert (hello["data"]["capacity"], hello["data"]["activeJobs"]) == (0, [])
            assert [frame["data"] for frame in gateway.sent("job_request")] == [{"capacity": 1}]
            assert len([frame for frame in crawler.sent if frame["type"] == "job_request"]) == 2

    run(test())


def test_two_orders_are_done_one_after_the_other_each_with_its_own_token(tmp_path: Path) -> None:
    """Given two at once, it asks for one account's areas with the other's token."""

    async def test() -> None:
        async with translated(tmp_path, {"a": A, "b": B}) as (gateway, crawler, gitlab):
            gateway.give(order("1", "a"), order("2", "b", entityId="8"))
            await until(lambda: len(gateway.ends()) == 2)
            assert gateway.ends() == [("job_completed", "1"), ("job_completed", "2")]
            assert gitlab.asked == [("7", "a"), ("8", "b")]
            assert crawler.most_at_once == 1
            found = [(f["jobId"], f["data"]["discovered_jobs"]) for f in gateway.sent("jobs_discovered")]
            assert found == [("1", A.found), ("2", B.found)]

    run(test())


def test_its_heartbeats_are_replaced(tmp_path: Path) -> None:
    """It says that it is idle, also while it works; the gateway knows what it was given."""

    async def test() -> None:
        async with translated(tmp_path, {"a": Listing([], 30, blocks=True)}) as (gateway, _, _gitlab):
            gateway.give(order("1", "a"))
            await until(
                lambda: len([f for f in gateway.sent("heartbeat") if f["data"]["activeJobs"] == ["1"]]) >= 2
            )
            assert {"systemStatus": "processing", "activeJobs": ["1"]} in [
                frame["data"] for frame in gateway.sent("heartbeat")
            ]

    run(test())


def test_it_is_neither_alive_nor_answers_pings_once_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crawler that hangs sends nothing, and nothing is sent in its name."""

    async def test() -> None:
        async with translated(tmp_path, {"a": Listing([], 1e6, blocks=True)}, beat=0.05) as (
            gateway,
            _,
            _gitlab,
        ):
            gateway.link.send("ping", {"nonce": "x"})
            await until(lambda: gateway.sent("pong"))
            monkeypatch.setattr(translator, "SILENCE", 0.2)
            gateway.give(order("1", "a"))
            await until(lambda: gateway.sent("job_started"))
            await asyncio.sleep(0.3)
            beats = len(gateway.sent("heartbeat"))
            gateway.link.send("ping", {"nonce": "y"})
            await asyncio.sleep(0.2)
            assert (len(gateway.sent("heartbeat")), len(gateway.sent("pong"))) == (beats, 1)

    run(test())


def test_a_revoked_job_keeps_its_slot_until_the_crawler_ends_it(tmp_path: Path) -> None:
    """It cannot be stopped; its end is no report any more, and only then the next job is handed over."""

    async def test() -> None:
        listings = {"a": Listing([], 4), "b": B}
        async with translated(tmp_path, listings, beat=0.02) as (gateway, crawler, gitlab):
            gateway.give(order("1", "a"))
            await until(lambda: gateway.sent("job_started"))
            gateway.revoke("1")
            gateway.give(order("2", "b"))
            await until(lambda: gateway.sent("job_request")[-1]["data"] == {"capacity": 0})
            await until(lambda: gateway.sent("heartbeat")[-1]["data"]["activeJobs"] == ["1", "2"])
            await until(gateway.ends)
            assert gateway.ends() == [("job_completed", "2")]
            assert gitlab.asked == [("7", "a"), ("7", "b")]
            assert crawler.most_at_once == 1
            assert gateway.sent("job_request")[-1]["data"] == {"capacity": 1}

    run(test())


def test_a_revoked_job_that_was_not_handed_over_is_dropped(tmp_path: Path) -> None:
    """The crawler never gets it."""

    async def test() -> None:
        async with translated(tmp_path, {"a": A, "b": B}) as (gateway, _, gitlab):
            gateway.give(order("1", "a"), order("2", "b"), order("3", "a"))
            gateway.revoke("2")
            await until(lambda: len(gateway.ends()) == 2)
            assert [token for _, token in gitlab.asked] == ["a", "a"]

    run(test())


def test_a_newer_token_lets_the_job_go_on(tmp_path: Path) -> None:
    """Its account has another one by now: the attempt is the same."""

    async def test() -> None:
        async with translated(tmp_path, {"new": A}, {"1": "new"}) as (gateway, _, gitlab):
            gateway.give(order("1", "dead"))
            await until(gateway.ends)
            assert gateway.ends() == [("job_completed", "1")]
            assert gitlab.asked == [("7", "dead"), ("7", "new")]

    run(test())


@pytest.mark.parametrize("tokens", [{"1": "dead"}, {"1": None}, {}], ids=["same", "none", "database away"])
def test_a_dead_token_ends_the_job_here_and_there(
    tokens: dict[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported once, the crawler is answered before it gives up waiting, and gets the next job after that."""
    monkeypatch.setattr(translator, "TOKEN_PATIENCE", 10 / 50)

    async def test() -> None:
        async with translated(tmp_path, {"b": B}, tokens) as (gateway, crawler, gitlab):
            gateway.give(order("1", "dead"), order("2", "b"))
            await until(lambda: len(gateway.ends()) == 2)
            assert gateway.ends() == [("token_refresh_request", "1"), ("job_completed", "2")]
            [failed] = [frame for frame in crawler.sent if frame["type"] == "job_failed"]
            assert failed["data"]["error"] == "token_refresh_response payload was incomplete"
            assert gitlab.asked == [("7", "dead"), ("7", "b")]
            assert crawler.most_at_once == 1

    run(test())


def test_a_new_token_that_is_dead_too_ends_the_job(tmp_path: Path) -> None:
    """The second time the account has no other one."""

    async def test() -> None:
        async with translated(tmp_path, {}, {"1": "dead too"}) as (gateway, _, gitlab):
            gateway.give(order("1", "dead"))
            await until(gateway.ends)
            assert gateway.ends() == [("token_refresh_request", "1")]
            assert gitlab.asked == [("7", "dead"), ("7", "dead too")]

    run(test())


def test_a_cut_link_changes_nothing_for_its_job(tmp_path: Path) -> None:
    """It comes back under its session, works on, and is not given the job again."""

    async def test() -> None:
        async with translated(tmp_path, {"a": Listing([area("a", 1)], 1.5, blocks=True), "b": B}) as (
            gateway,
            crawler,
            gitlab,
        ):
            gateway.give(order("1", "a"))
            await until(lambda: gateway.sent("job_started"))
            gateway.cut()
            await until(lambda: len(gateway.sent("hello")) == 2)
            first, second = (frame["data"] for frame in gateway.sent("hello"))
            assert (second["session"], second["activeJobs"]) == ("session-1", ["1"])
            assert second["n"] > first["n"]
            gateway.give(order("2", "b"))
            await until(lambda: len(gateway.ends()) == 2)
            assert sorted(gateway.ends()) == [("job_completed", "1"), ("job_completed", "2")]
            assert crawler.most_at_once == 1
            assert set(gitlab.asked) == {("7", "a"), ("7", "b")}

    run(test())


def test_what_is_lost_with_a_link_is_done_again(tmp_path: Path) -> None:
    """It ended its job without a link, and buffers nothing: once it is idle, it gets the live order again."""

    async def test() -> None:
        async with translated(tmp_path, {"a": Listing([area("a", 1)], 0.5)}) as (gateway, crawler, gitlab):
            gateway.give(order("1", "a"))
            await until(lambda: gateway.sent("job_started"))
            gateway.cut()
            await until(gateway.ends)
            assert gateway.ends() == [("job_completed", "1")]
            assert len(gitlab.asked) == 2
            assert crawler.most_at_once == 1

    run(test())


def test_what_is_not_acknowledged_is_said_again_after_the_welcome(tmp_path: Path) -> None:
    """Unchanged and in its order; the crawler is not asked for it."""

    async def test() -> None:
        async with translated(tmp_path, {"a": A}) as (gateway, _, gitlab):
            gateway.acknowledges = False
            gateway.give(order("1", "a"))
            await until(gateway.ends)
            gateway.acknowledges = True
            reported = gateway.sent("job_started", "jobs_discovered", "job_completed")
            gateway.cut()
            await until(lambda: len(gateway.ends()) == 2)
            assert gateway.link.of("job_started", "jobs_discovered", "job_completed") == reported
            gateway.cut()
            await until(lambda: len(gateway.sent("hello")) == 3)
            await until(lambda: gateway.link.of("job_request"))
            assert (gateway.link.of("job_completed"), len(gitlab.asked)) == ([], 1)

    run(test())


def test_a_job_that_it_has_ended_is_never_handed_over_again(tmp_path: Path) -> None:
    """It would do it once more."""

    async def test() -> None:
        async with translated(tmp_path, {"a": A, "b": B}) as (gateway, _, gitlab):
            gateway.give(order("1", "a"))
            await until(gateway.ends)
            gateway.give(order("1", "a"), order("2", "b"))
            await until(lambda: len(gateway.ends()) == 2)
            assert gitlab.asked == [("7", "a"), ("7", "b")]

    run(test())


def test_a_gateway_that_is_started_again_knows_its_session(tmp_path: Path) -> None:
    """It is kept in a file beside the socket, which nobody else may read."""

    async def test() -> None:
        async with translated(tmp_path, {"a": Listing([area("a", 1)], 1, blocks=True)}) as (
            gateway,
            crawler,
            _,
        ):
            file = tmp_path / "s.sessions"
            assert file.stat().st_mode & 0o777 == 0o600
            gateway.give(order("1", "a"))
            await until(lambda: gateway.sent("job_started"))
            await gateway.restart()
            await until(gateway.ends)
            assert gateway.link.of("hello")[0]["data"]["session"] == "session-1"
            assert set(gateway.ends()) == {("job_completed", "1")}
            assert crawler.most_at_once == 1

    run(test())


def test_a_connection_that_is_over_leaves_nothing_behind(tmp_path: Path) -> None:
    """Another session: what it works on is others', is not reported, and takes its slot until it ends."""

    async def test() -> None:
        async with translated(tmp_path, {"a": Listing([], 1.5, blocks=True), "b": B}) as (
            gateway,
            crawler,
            _,
        ):
            gateway.give(order("1", "a"))
            await until(lambda: gateway.sent("job_started"))
            gateway.session = "session-2"
            gateway.cut()
            await until(lambda: len(gateway.sent("hello")) == 2)
            gateway.give(order("2", "b"))
            await until(gateway.ends)
            assert gateway.ends() == [("job_completed", "2")]
            assert crawler.most_at_once == 1

    run(test())


def test_an_id_that_would_lead_astray_is_not_handed_over(tmp_path: Path) -> None:
    """It goes into URLs and names of files as it is; the job fails, with that said."""

    async def test() -> None:
        async with translated(tmp_path, {"a": A}) as (gateway, _, gitlab):
            gateway.give(order("1", "a", entityId="a/../b"), order("2", "a"))
            await until(lambda: len(gateway.ends()) == 2)
            assert gateway.ends() == [("job_failed", "1"), ("job_completed", "2")]
            assert gateway.sent("job_failed")[0]["data"]["errorType"] == "UnsafeEntityId"
            assert len(gitlab.asked) == 1

    run(test())


def test_a_large_discovery_is_passed_on_whole(tmp_path: Path) -> None:
    """5,000 projects, listed for a minute without a frame; the failure that follows is passed on after it."""

    async def test() -> None:
        found = [area(f"big/project-{number}", number) for number in range(5000)]
        async with translated(tmp_path, {"a": Listing(found, 60, blocks=True)}) as (gateway, _, _gitlab):
            gateway.give(order("1", "a"))
            await until(gateway.ends)
            assert gateway.sent("jobs_discovered")[0]["data"]["discovered_jobs"] == found
            assert gateway.ends() == [("job_failed", "1")]

    run(test())


def test_it_is_given_ascii_and_no_brace_in_a_string() -> None:
    """It counts braces in strings, and decodes packets one by one."""
    data = {"a": 'größe {x}"{"\\}', "b": {"c": ["}"]}}
    frame = encode("job_response", data)
    assert frame.isascii()
    assert frame.count(b"{") == frame.count(b"}") == 3
    assert json.loads(frame)["data"] == data


@pytest.mark.parametrize(
    ("given", "bare"),
    [("gid://gitlab/Group/42", "42"), ("42", "42"), ("group/project", "group/project"), (None, None)],
)
def test_it_is_given_bare_numbers(given: str | None, bare: str | None) -> None:
    """Global ids are not what its requests want; without an id it lists all that there is."""
    [job] = json.loads(job_response(order("1", "a", entityId=given)))["data"]["jobs"]
    assert (job["entityId"], "resumeState" in job) == (bare, False)


def peer(address: str, **who: Any) -> Peer:
    """A peer at a listener."""
    [listener] = read_addresses(address)
    return Peer(listener, who.get("uid"), who.get("pid"), "here")


def test_a_crawler_is_known_again_by_its_listener_or_by_its_process(tmp_path: Path) -> None:
    """One whose process is in another pid namespace is a new one each time."""
    crawlers = OriginalCrawlers()
    own = f"unix:{tmp_path}/own?trust=peer&dialect=original&crawler=one"
    shared = f"unix:{tmp_path}/shared?trust=peer&dialect=original"
    assert crawlers.find(peer(own, uid=1, pid=0)) is crawlers.find(peer(own, uid=1, pid=5))
    assert crawlers.find(peer(shared, uid=1, pid=1)) is crawlers.find(peer(shared, uid=1, pid=1))
    assert crawlers.find(peer(shared, uid=1, pid=1)) is not crawlers.find(peer(shared, uid=2, pid=1))
    assert crawlers.find(peer(shared, uid=1, pid=0)) is not crawlers.find(peer(shared, uid=1, pid=0))
