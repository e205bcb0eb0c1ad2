"""Hostile crawlers: whatever a link sends, it speaks for its own connection and its own attempts alone."""

import json
import random

from persistence.orders.attempts import OwnAttempts
from support.depth import deep
from support.gateway.stages import Player, Stage

FRAMES = 100_000 if deep() else 10_000
LINKS = 50
KINDS = (
    *(
        "job_started",
        "job_progress",
        "job_completed",
        "job_failed",
        "jobs_discovered",
        "token_refresh_request",
    ),
    *("discovery", "heartbeat", "job_request", "ping", "pong", "hello", "connections.attach", "x", ""),
)
RIGHT: dict[str, object] = {
    "job_progress": {"stage": "fetching", "entityType": "project", "processed": 1},
    "job_failed": {"error": "no", "isRecoverable": True},
    "jobs_discovered": {"discovered_jobs": []},
    "discovery": {"entityType": "group", "entities": []},
    "heartbeat": {"activeJobs": ["job-0", "job-1", "nobody's"]},
    "job_request": {"capacity": 1000},
    "hello": {"protocol": 1, "crawlerId": "another", "n": 99, "session": "stolen"},
    "ping": {"nonce": "x"},
}
WRONG = (*RIGHT.values(), [], None, "data")


def frame(choose: random.Random, jobs: list[str], connections: list[str]) -> bytes:
    """A frame that is right in most of its parts, and may claim to be another's."""
    kind = choose.choice(KINDS)
    said: dict[str, object] = {
        "type": kind,
        "timestamp": "2026-11-29T09:00:00Z",
        "jobId": choose.choice(jobs),
        "id": choose.choice(("1", "2", None, "", 5)),
        "data": RIGHT.get(kind, {}) if choose.random() < 0.7 else choose.choice(WRONG),
        "connection_id": choose.choice(connections),
        "connectionId": choose.choice(connections),
    }
    if choose.random() < 0.2:
        said.pop(choose.choice(list(said)))
    raw = json.dumps(said).encode()
    if choose.random() < 0.1:  # the last of two keys counts, here as for the workers
        raw = b'{"jobId": "%b", ' % choose.choice(jobs).encode() + raw[1:]
    if choose.random() < 0.05:
        cut = choose.randrange(len(raw))
        raw = raw[:cut] + choose.randbytes(2) + raw[cut + choose.randrange(3) :]
    return raw


def test_no_link_speaks_for_another(stage: Stage) -> None:
    """Of many frames of many links none is passed on under another's connection, or about another's attempt."""
    choose = random.Random(20261129)
    players: dict[str, Player] = {}
    for n in range(LINKS):
        player = stage.enter(f"crawler-{n}")
        player.hand_over(player.order(f"job-{n}"))
        stage.orders.own[player.id] = OwnAttempts(
            frozenset((f"job-{n}-elsewhere",)), frozenset((f"job-{n}-old",))
        )
        players[player.id] = player
    own = {id_: {f"job-{n}", f"job-{n}-elsewhere"} for n, id_ in enumerate(players)}
    jobs = [f"job-{n}{suffix}" for n in range(LINKS) for suffix in ("", "-elsewhere", "-old")] + [
        "nobody's",
        "",
    ]

    def send() -> None:
        for _ in range(200):
            player = choose.choice(list(players.values()))
            player.link._conversation._bad = 0  # type: ignore[union-attr]  # or it would be closed soon
            mine = [*own[player.id]] * 50
            player.link.frame_received(frame(choose, jobs + mine, list(players)))

    for _ in range(FRAMES // 200):
        stage.do(send, 3)
        stage.do(stage.reports.handle, 1)

    passed_on = stage.reports.frames
    assert len(passed_on) > FRAMES / 20
    assert {json.loads(one.raw)["jobId"] == one.job_id for _, one in passed_on} == {True}
    assert [one for id_, one in passed_on if one.job_id not in own[id_]] == []
    assert {beat["connection_id"] for beat in stage.reports.beats} <= players.keys()
    listed = [
        (beat["connection_id"], job) for beat in stage.reports.beats for job in beat.get("active_jobs", [])
    ]
    assert [job for id_, job in listed if job not in own[id_]] == []
    assert {link["connection_id"] for link in stage.reports.links} == players.keys()
    assert {code for player in players.values() for code in player.socket.codes} == {
        "malformed",
        "invalid",
        "unknown_job",
    }


def test_a_megabyte_of_brackets_costs_little(stage: Stage) -> None:
    """It is refused before it is parsed: a tenth of a second is the most that others wait for."""
    player = stage.enter()
    begun = stage.cpu()
    for text in (b"[", b'{"a":', b'[{"a":[', b'"[', b"[]," * 2):
        player.say_raw((text * 2**20)[: 2**20])

    assert stage.cpu() - begun < 5 * 0.1
    assert set(player.socket.codes) == {"malformed"}
