"""A link that is open: frames in."""

import pytest

from persistence.orders.attempts import OwnAttempts
from support.gateway.stages import Stage

RAW = b'{"type":"job_started", "timestamp":"2026-11-29T09:00:00Z","jobId":"A","id":"1","connection_id":"x","z":[]}'
FAILED = b'{"type": "job_failed", "id": "9", "jobId": "A", "timestamp": "2026-11-29T09:00:00Z", "data": {"error": 5}}'


def reported(stage: Stage) -> list[tuple[str, str | None]]:
    """What was passed on, as kind and attempt."""
    return [(frame.kind, frame.job_id) for _, frame in stage.reports.frames]


def test_frames_are_passed_on_as_they_came_and_acknowledged_when_handled(stage: Stage) -> None:
    """Under the connection of their link, whatever they say themselves; without an id there is no answer."""
    player = stage.enter()
    player.hand_over(player.order("A"))
    player.say_raw(RAW)
    player.say("job_progress", "A", stage="fetching", entityType="project", processed=1)
    before = player.socket.said("ack")
    stage.do(stage.reports.handle)

    assert [id_ for id_, _ in stage.reports.frames] == [player.id, player.id]
    assert stage.reports.frames[0][1].raw == RAW
    assert reported(stage) == [("job_started", "A"), ("job_progress", "A")]
    assert before == []
    assert player.socket.said("ack") == [{"id": "1"}]


@pytest.mark.parametrize(
    ("frame", "code", "place"),
    [
        (b'{"type": "job_started"', "malformed", "not JSON"),
        (b'{"type": "job_started", "data": "\xff"}', "malformed", "not JSON"),
        (b'"job_started"', "malformed", "not a JSON object"),
        (b"[" * 70 + b"]" * 70, "malformed", "deep"),
        (b"[" * 2**20, "malformed", "values"),
        (b'{"type": 5, "id": "9"}', "invalid", "type"),
        (b'{"type": "job_started", "id": "9", "data": []}', "invalid", "data"),
        (b'{"type": "job_started", "id": "9", "timestamp": "2026-11-29T09:00:00Z"}', "invalid", "jobId"),
        (b'{"type": "job_started", "id": "9", "jobId": "A"}', "invalid", "timestamp"),
        (FAILED, "invalid", "data.error"),
        (b'{"type": "heartbeat", "id": "9", "data": {"activeJobs": -1}}', "invalid", "activeJobs"),
    ],
)
def test_a_frame_that_is_none_is_refused_and_the_link_goes_on(
    stage: Stage, frame: bytes, code: str, place: str
) -> None:
    """The error names the field and the frame, and nothing is passed on."""
    player = stage.enter()
    player.hand_over(player.order("A"))
    player.say_raw(frame)

    (error,) = player.socket.said("error")
    assert (error["code"], error["closes"]) == (code, False)
    assert place in error["message"]
    assert error.get("id") == ("9" if code == "invalid" else None)
    assert reported(stage) == []
    assert not player.socket.is_closing


def test_too_many_of_them_close_the_link(stage: Stage) -> None:
    """Within a minute; a few every minute are borne."""
    player = stage.enter()
    for _ in range(30):
        player.say_raw(b"{")
    stage.now += 61
    for _ in range(30):
        player.say_raw(b"{")
    borne = player.socket.is_closing
    player.say_raw(b"{")

    assert not borne
    assert player.socket.codes[-1] == "too_many_bad_frames"
    assert player.socket.is_closing


def test_unknown_types_and_fields_are_ignored(stage: Stage) -> None:
    """A crawler may be newer than its gateway."""
    player = stage.enter()
    player.say("praise", how="loud")

    assert player.socket.codes == []
    assert reported(stage) == []


def test_an_attempt_of_somebody_else_is_refused(stage: Stage) -> None:
    """Its frames never leave the gateway."""
    player = stage.enter()
    player.say("job_completed", "FOREIGN", "7")

    (error,) = player.socket.said("error")
    assert (error["code"], error["closes"], error["id"]) == ("unknown_job", False, "7")
    assert reported(stage) == []


def test_an_attempt_that_another_gateway_handed_over_is_looked_up(stage: Stage) -> None:
    """A live one is reported; a closed one is acknowledged at once; what comes behind it waits its turn."""
    player = stage.enter()
    player.hand_over(player.order("OURS"))
    stage.orders.own[player.id] = OwnAttempts(frozenset(("LIVE",)), frozenset(("CLOSED",)))
    player.say("job_completed", "CLOSED", "1")
    player.say("job_started", "LIVE", "2")
    player.say("job_started", "OURS", "3")

    assert reported(stage) == [("job_started", "LIVE"), ("job_started", "OURS")]
    assert player.socket.said("ack") == [{"id": "1"}]
    assert not player.socket.is_paused


def test_nothing_is_read_while_an_attempt_cannot_be_looked_up(stage: Stage) -> None:
    """The database is away: the peer is held up, and what it sent keeps its order."""
    player = stage.enter()
    player.hand_over(player.order("OURS"))
    stage.orders.is_away = True
    player.say("job_started", "LIVE", "2")
    player.say("job_started", "OURS", "3")

    assert player.socket.is_paused
    assert reported(stage) == []


def test_a_link_that_ends_meanwhile_is_lost_only_after_its_frames(stage: Stage) -> None:
    """They are looked up all the same: what is said last is said last."""
    player = stage.enter()
    stage.orders.is_away = True
    player.say("job_completed", "LIVE", "2")
    player.close()
    early = list(stage.reports.lost_links)
    stage.orders.is_away = False
    stage.orders.own[player.id] = OwnAttempts(frozenset(("LIVE",)), frozenset())
    stage.wait_until(lambda: stage.reports.lost_links)

    assert early == []
    assert reported(stage) == [("job_completed", "LIVE")]
    assert stage.reports.lost_links == [(player.id, 1, player.claim.link)]


def test_nothing_is_read_while_the_reports_have_no_room(stage: Stage) -> None:
    """Until they say so."""
    player = stage.enter()
    player.hand_over(player.order("A"))
    stage.reports.has_room = False
    player.say("job_started", "A")
    paused = player.socket.is_paused
    stage.do(lambda: stage.registry.room(player.id))

    assert paused
    assert not player.socket.is_paused


def test_a_heartbeat_lists_what_its_crawler_was_given(stage: Stage) -> None:
    """Not what it invents; and what it was given a moment ago it may not have seen when it made the list."""
    player = stage.enter(capacity=4)
    player.hand_over(player.order("OLD"), player.order("DROPPED"))
    stage.now += 60
    player.hand_over(player.order("NEW"))
    player.say("heartbeat", activeJobs=["OLD", "INVENTED"], systemStatus="processing")

    assert stage.reports.beats == [
        {
            "connection_id": player.id,
            "capacity": 4,
            "system_status": "processing",
            "active_jobs": ["OLD", "NEW"],
        }
    ]


def test_a_job_that_ends_right_after_a_heartbeat_takes_no_slot(stage: Stage) -> None:
    """The heartbeat may be applied after the end: then the list is said again without the job."""
    player = stage.enter()
    player.hand_over(player.order("A"), player.order("B"))
    player.say("heartbeat", activeJobs=["A", "B"])
    player.say("job_completed", job="A")
    assert len(stage.reports.beats) == 1
    stage.reports.handle()
    assert stage.reports.beats[-1]["active_jobs"] == ["B"]

    stage.now += 6
    player.say("job_completed", job="B")
    stage.reports.handle()
    assert len(stage.reports.beats) == 2


def test_a_heartbeat_that_names_what_its_crawler_has_ended_takes_no_slot_for_it(stage: Stage) -> None:
    """It does not know yet that this was handled. What was revoked it may still work on."""
    player = stage.enter()
    player.hand_over(player.order("ENDED"), player.order("REVOKED"))
    player.say("job_failed", job="ENDED", error="x", isRecoverable=True)
    for job in ("ENDED", "REVOKED"):
        stage.do(lambda job=job: stage.registry.ended(player.id, job, "Cancelled"))  # type: ignore[misc]
    player.say("heartbeat", activeJobs=["ENDED", "REVOKED"])

    assert stage.reports.beats[-1]["active_jobs"] == ["REVOKED"]


def test_a_heartbeat_lists_nothing_while_the_orders_are_not_read(stage: Stage) -> None:
    """A list disowns what it does not name, and some of that may not be known here."""
    player = stage.enter()
    stage.orders.is_current = False
    player.say("heartbeat", activeJobs=[])

    assert stage.reports.beats == [{"connection_id": player.id, "capacity": 5}]


def test_every_heartbeat_says_the_capacity(stage: Stage) -> None:
    """So that a request for jobs that was overtaken undoes nothing for long."""
    player = stage.enter(capacity=3)
    player.say("job_request", capacity=0)
    player.say("heartbeat", activeJobs=0)

    assert [beat["capacity"] for beat in stage.reports.beats] == [0, 0]
    assert stage.reports.beats[-1]["active_jobs"] == 0


def test_a_request_without_a_capacity_leaves_it_as_it_is(stage: Stage) -> None:
    """What hello said holds until another is said."""
    player = stage.enter(capacity=2)
    player.say("job_request")

    assert [beat["capacity"] for beat in stage.reports.beats] == [2]


def test_a_crawler_that_says_nothing_gets_no_heartbeat(stage: Stage) -> None:
    """Even if it answers pings: what answers them may not be what works."""
    player = stage.enter()
    for _ in range(3):
        stage.pass_time(30, player)
        player.say("pong", nonce=player.socket.said("ping")[-1]["nonce"])

    assert stage.reports.beats == []
