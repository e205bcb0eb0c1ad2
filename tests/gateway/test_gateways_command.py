"""`crawlyard connections --gateways` and `status`: the gateways, whether they hold links or not."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import redis
import redis.asyncio

from gateway.sign_of_life import EXPIRES_S, KEY, NAMES, Sign, SignsOfLife
from support.command import Run, Sql
from support.processes.workers import wait_until

LINKS = """
    INSERT INTO socket_connection (id, crawler_id, gateway, link, incarnation, lost_at, goodbye_at, active_jobs)
    VALUES ('here', 'crawler-1', 'gate-a', 'l1', 7, NULL, NULL, '["x", "y"]'),
           ('lost', 'crawler-2', 'gate-a', 'l2', 8, now() - interval '4 seconds', NULL, '[]'),
           ('left', 'crawler-3', 'gate-a', 'l3', 9, NULL, now(), '[]'),
           ('ours', 'crawler-4', 'theirs', 'l4', 1, NULL, NULL, '[]'),
           ('none', 'crawler-5', NULL, NULL, NULL, NULL, NULL, '[]')
"""


def sign(name: str, state: str = "serving", links: int = 0) -> Sign:
    """A sign of a gateway that has run for a minute."""
    return Sign(
        name, "host-1", 17, "0.4.1", time.time() - 60, state, links, ["tcp://127.0.0.1:7433"], {"frames": 3}
    )


def given(broker: str, *signs: Sign, taken_back: bool = False) -> None:
    """Have gateways give these signs."""

    async def give() -> None:
        async with redis.asyncio.Redis.from_url(broker) as client:
            for said in signs:
                signs_of_life = SignsOfLife(client, "", lambda said=said: said)
                await signs_of_life.give()
                if taken_back:
                    await signs_of_life.take_back()

    asyncio.run(give())


def test_gateways_are_listed_with_and_without_links(sql: Sql, broker: str, run: Run) -> None:
    """An idle one shows by its sign, one of a user's own by the connections that name it, a killed one is missed."""
    sql(LINKS)
    given(broker, sign("gate-a", links=2), sign("idle"), sign("killed"))
    with redis.Redis.from_url(broker) as client:
        assert client.ttl(f"{KEY}idle") in range(EXPIRES_S - 5, EXPIRES_S + 1)
        client.delete(f"{KEY}killed")  # as when it expires

    found = {gateway["name"]: gateway for gateway in run("connections", "--gateways", "--json").json}

    assert {name: gateway["state"] for name, gateway in found.items()} == {
        "gate-a": "serving", "idle": "serving", "killed": "missing", "theirs": "unknown"
    }  # fmt: skip
    known = found["gate-a"]["connections"]
    assert (found["gate-a"]["sockets"], known["links"], known["lost"], known["live"]) == (2, 1, 1, 2)
    assert (found["idle"]["connections"], found["idle"]["host"], found["idle"]["pid"]) == (None, "host-1", 17)
    assert found["idle"]["up"] >= 60 > found["idle"]["last_sign"]
    assert found["idle"]["figures"] == {"frames": 3}

    shown = run("connections", "--gateways").out
    assert "killed" in shown
    assert "missing" in shown
    status = run("status")
    assert [line for line in ("2 links", "idle", "missing", "1 link") if line not in status.out] == []
    assert {gateway["name"] for gateway in run("status", "--json").json["gateways"]} == set(found)


def test_a_gateway_that_was_stopped_is_not_missed(database: str, broker: str, run: Run) -> None:
    """It takes its sign back, and what is on the broker is nothing but the signs of the others."""
    given(broker, sign("stopped"), taken_back=True)
    with redis.Redis.from_url(broker) as client:
        assert client.exists(f"{KEY}stopped", NAMES) == 0
    assert run("connections", "--gateways").out == "No gateway runs, and no connection names one.\n"


def test_a_sign_of_another_version_is_no_error(database: str, broker: str, run: Run) -> None:
    """Fields that are not known are ignored; a sign without one that is needed counts as none."""
    with redis.Redis.from_url(broker) as client:
        for name, text in {
            "newer": {**vars(sign("newer")), "shoe_size": 9},
            "older": {"name": "older"},
        }.items():
            client.set(KEY + name, json.dumps(text))
            client.zadd(NAMES, {name: time.time()})
    found = run("connections", "--gateways", "--json").json
    assert [(gateway["name"], gateway["state"]) for gateway in found] == [
        ("newer", "serving"), ("older", "missing")
    ]  # fmt: skip


def test_gateways_are_shown_without_the_broker(sql: Sql, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Postgres knows is shown, and the exit code is 1."""
    sql(LINKS)
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:9/0")
    output = run("connections", "--gateways")
    assert output.code == 1
    assert "gate-a" in output.out
    assert "The broker cannot be used" in output.err


def test_connections_show_their_links(sql: Sql, broker: str, run: Run) -> None:
    """The gateway, the crawler's number for the link, and since when it is lost; only of one gateway, if asked."""
    sql(LINKS)
    listed = run("connections").out
    (lost,) = [line for line in listed.splitlines() if line.startswith("lost")]
    assert lost.split()[-6:] == ["gate-a", "#8", "link", "lost", "4", "s"]
    assert "link l2" in run("connections", "lost").out
    of_one = run("connections", "--gateway", "theirs", "--json").json
    assert [(connection["id"], connection["incarnation"]) for connection in of_one] == [("ours", 1)]


def test_health_of_a_gateway_is_that_its_loop_turns(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    """It needs neither Postgres nor the broker; a frozen one is killed on request, whatever they do."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:9/0")
    assert run("health", "--gateway").out == "FAIL gateway: none runs on this machine under this user\n"
    script = (
        "import asyncio; from gateway.sign_of_life import keep_liveness_file as keep; asyncio.run(keep())"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as gateway:
        try:
            wait_until(lambda: list(tmp_path.glob(f"*/gateway-{gateway.pid}")), "the file")
            assert run("health", "--gateway", "--end-stuck").code == 0
            gateway.send_signal(signal.SIGSTOP)
            (file,) = tmp_path.glob("*/gateway-*")
            os.utime(file, (time.time() - 60,) * 2)
            output = run("health", "--gateway", "--end-stuck")
            assert output.code == 1
            assert f"FAIL gateway {gateway.pid}" in output.out
            assert gateway.wait(10) == -signal.SIGKILL
        finally:
            gateway.kill()
