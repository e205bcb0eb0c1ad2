"""A link that is open: orders out, and its ends."""

import json

import pytest

from gateway.links.link import FRAME_BYTES, State
from support.gateway.stages import Stage


def test_an_order_is_pushed_once(stage: Stage) -> None:
    """Whoever tells of it again."""
    player = stage.enter()
    player.hand_over(player.order("A"))
    player.hand_over(player.order("A"), player.order("B"))

    pushed = [[job["id"] for job in data["jobs"]] for data in player.socket.said("job_response")]
    assert pushed == [["A"], ["B"]]


def test_a_revoked_order_is_taken_back(stage: Stage) -> None:
    """One that its crawler has ended itself is not: it knows."""
    player = stage.enter()
    player.hand_over(player.order("A"), player.order("B"))
    player.say("job_completed", "B", "1")
    stage.do(lambda: stage.registry.ended(player.id, "A", "Cancelled"))
    stage.do(lambda: stage.registry.ended(player.id, "B", "reported"))

    assert player.revoked == [("A", "Cancelled")]


def test_a_discovery_order_raises_the_limit_of_a_frame(stage: Stage) -> None:
    """Only while it is held."""
    limits = [stage.connect().link.frame_limit]
    player = stage.enter()
    limits.append(player.link.frame_limit)
    player.hand_over(player.order("A", "GROUP_PROJECT_DISCOVERY"))
    limits.append(player.link.frame_limit)
    stage.do(lambda: stage.registry.ended(player.id, "A", "reported"))
    limits.append(player.link.frame_limit)

    assert limits == [4 * 2**10, FRAME_BYTES, 8 * 2**20, FRAME_BYTES]


def test_a_crawler_that_leaves_is_let_go_when_all_is_handled(stage: Stage) -> None:
    """Its acknowledgements come before the end of the link; nothing is lost, and its session is over."""
    player = stage.enter()
    player.hand_over(player.order("A"))
    player.say("job_completed", "A", "1")
    player.say("goodbye", reason="the shift is over")
    open_yet = not player.socket.is_closing
    stage.do(stage.reports.handle)
    closing = player.socket.is_closing
    player.close()

    assert open_yet
    assert closing
    assert player.socket.said("ack") == [{"id": "1"}]
    assert stage.reports.goodbyes == [(player.id, "the shift is over")]
    assert stage.reports.lost_links == []
    assert len(stage.registry) == 0


def test_a_goodbye_does_not_wait_for_ever(stage: Stage) -> None:
    """Ten seconds; then the link is closed all the same."""
    player = stage.enter()
    player.hand_over(player.order("A"))
    player.say("job_completed", "A", "1")
    player.say("goodbye")
    stage.pass_time(11, player)

    assert player.socket.is_closing


def test_a_link_that_ends_is_lost(stage: Stage) -> None:
    """By its number and name, so that a newer one is not meant."""
    player = stage.enter(n=7)
    player.close()

    assert stage.reports.lost_links == [(player.id, 7, player.claim.link)]
    assert len(stage.registry) == 0


def test_a_link_that_ends_before_its_welcome_is_lost_once_it_is_attached(stage: Stage) -> None:
    """Said before that, it would have no effect, and its connection would pass for alive."""
    player = stage.connect()
    player.say("hello", protocol=1, crawlerId="one", n=1)
    player.close()
    early = list(stage.reports.lost_links)
    player.attach()

    assert early == []
    assert stage.reports.lost_links == [(player.id, 1, player.claim.link)]
    assert len(stage.registry) == 0
    assert player.socket.sent == []


def test_a_newer_link_supersedes_an_older_one(stage: Stage) -> None:
    """It is read on for a moment, and gets no orders; its end is no loss."""
    first = stage.enter()
    first.hand_over(first.order("A"))
    second = stage.enter(n=2, session=first.session, orders=[first.order("A")])
    first.say("job_started", "A", "1")
    second.hand_over(second.order("B"))
    stage.pass_time(1, first)
    reading = not first.socket.is_closing
    stage.pass_time(2, first)
    closing = first.socket.is_closing
    first.close()

    assert first.socket.codes == ["superseded"]
    assert (reading, closing) == (True, True)
    assert [(frame.kind, frame.job_id) for _, frame in stage.reports.frames] == [("job_started", "A")]
    assert [job["id"] for job in first.socket.said("job_response")[-1]["jobs"]] == ["A"]
    assert [job["id"] for job in second.socket.said("job_response")[0]["jobs"]] == ["B"]
    assert stage.reports.lost_links == []


def test_a_superseded_link_says_goodbye_for_itself_alone(stage: Stage) -> None:
    """The connection, with its jobs, is the newer link's."""
    first = stage.enter()
    second = stage.enter(n=2, session=first.session)
    first.say("goodbye")
    first.close()

    assert first.socket.is_closing
    assert stage.reports.goodbyes == []
    assert stage.reports.lost_links == []
    assert not second.socket.is_closing


def test_an_acknowledgement_finds_the_newest_link(stage: Stage) -> None:
    """The one over which the frame came is closed."""
    first = stage.enter()
    first.hand_over(first.order("A"))
    first.say("job_completed", "A", "1")
    first.close()
    second = stage.enter(n=2, session=first.session)
    stage.do(stage.reports.handle)

    assert first.socket.said("ack") == []
    assert second.socket.said("ack") == [{"id": "1"}]


def test_a_connection_that_was_given_up_is_told(stage: Stage) -> None:
    """Its link is closed, which is no loss: it was found before."""
    player = stage.enter()
    row = player.row(is_active=False)
    stage.do(lambda: stage.registry.reconciled(player.id, row, frozenset()))
    player.close()

    assert player.socket.codes == ["connection_closed"]
    assert player.socket.is_closing
    assert stage.reports.lost_links == []


def test_a_hint_that_a_connection_is_closed_is_looked_into(stage: Stage) -> None:
    """It may be about somebody else who came with its session: the link stays open."""
    player = stage.enter()
    stage.do(lambda: stage.registry.connection_closed(player.id, known=True))
    row = player.row()
    stage.do(lambda: stage.registry.reconciled(player.id, row, frozenset()))

    assert stage.orders.looked_at == [player.id]
    assert not player.socket.is_closing


def test_a_comparison_finds_what_was_missed(stage: Stage) -> None:
    """An end, and an order, of which no event told."""
    player = stage.enter()
    player.hand_over(player.order("GONE"))
    stage.orders.live[player.id] = [player.order("NEW")]
    row = player.row()
    stage.do(lambda: stage.registry.reconciled(player.id, row, frozenset(("NEW",))))

    assert [id_ for id_, _ in player.revoked] == ["GONE"]
    assert [job["id"] for job in player.socket.said("job_response")[-1]["jobs"]] == ["NEW"]


def test_a_comparison_finds_a_newer_link_of_another_gateway(stage: Stage) -> None:
    """Two that hold one connection are never both believed."""
    player = stage.enter()
    row = player.row(n=2, link="elsewhere")
    stage.do(lambda: stage.registry.reconciled(player.id, row, frozenset()))

    assert player.socket.codes == ["superseded"]
    assert player.link.state is State.SUPERSEDED


def test_a_peer_that_does_not_answer_is_lost(stage: Stage) -> None:
    """Whatever it sends meanwhile: it may send, and read nothing."""
    player = stage.enter()
    for _ in range(46):
        stage.pass_time(1, player)
        player.say("heartbeat", activeJobs=[])
    player.close()

    assert len(player.socket.said("ping")) == 1
    assert player.socket.codes == ["no_pong"]
    assert len(stage.reports.lost_links) == 1


def test_a_peer_that_answers_is_asked_again(stage: Stage) -> None:
    """Every half minute; the nonce of another ping is no answer."""
    player = stage.enter()
    for _ in range(4):
        stage.pass_time(30, player)
        player.say("pong", nonce=player.socket.said("ping")[-1]["nonce"])
    stage.pass_time(30, player)
    borne = list(player.socket.codes)
    player.say("pong", nonce=player.socket.said("ping")[0]["nonce"])
    stage.pass_time(16, player)

    assert len(player.socket.said("ping")) == 5
    assert borne == []
    assert player.socket.codes == ["no_pong"]


def test_a_peer_is_excused_while_it_is_not_read(stage: Stage) -> None:
    """Nobody can see an answer that is not read, be it that the gateway was frozen."""
    player = stage.enter()
    stage.pass_time(30, player)
    stage.do(lambda: player.link._reading.pause("reports"))
    stage.pass_time(60, player)
    borne = list(player.socket.codes)
    stage.do(lambda: player.link._reading.resume("reports"))
    stage.now += 300
    stage.do(lambda: player.link.excuse(300))
    stage.pass_time(1, player)

    assert borne == []
    assert player.socket.codes == []


def test_a_gateway_that_ends_loses_nobody(stage: Stage) -> None:
    """Each crawler is asked to come back, and lives meanwhile."""
    player = stage.enter()
    stage.registry.is_draining = True
    stage.do(lambda: player.link.shut_down(5, 0.25))
    player.close()

    (shutdown,) = player.socket.said("shutdown")
    assert (shutdown["graceful"], shutdown["timeoutSeconds"], shutdown["reconnectAfterSeconds"]) == (
        True,
        5,
        0.25,
    )
    assert stage.reports.beats == [{"connection_id": player.id, "capacity": 5}]
    assert stage.reports.lost_links == []


def test_a_link_keeps_no_token(stage: Stage) -> None:
    """It is passed on, and forgotten."""
    player = stage.enter()
    player.hand_over(player.order("A", token="canary-1"))

    def kept(value: object, depth: int = 4) -> str:
        if depth and hasattr(value, "__dict__"):
            return " ".join(kept(part, depth - 1) for part in vars(value).values())
        return str(value)

    link = player.link
    assert link._conversation
    assert "canary-1" in json.dumps(player.socket.sent)
    assert "canary-1" not in kept(link.jobs) + kept(link._conversation._beats) + kept(link.claim)


def test_a_fault_ends_one_link_and_no_other(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the gateway goes on, and with it all other crawlers."""
    faulty, sound = stage.enter("faulty"), stage.enter("sound")
    monkeypatch.setattr(faulty.link, "hand_over", lambda _: 1 / 0)
    stage.do(lambda: stage.registry.handed_over([faulty.order("A"), sound.order("B")]))

    assert faulty.socket.codes == ["internal"]
    assert faulty.socket.is_closing
    assert [job["id"] for job in sound.socket.said("job_response")[0]["jobs"]] == ["B"]
    assert not sound.socket.is_closing


def test_a_fault_of_a_look_up_ends_its_link(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never be read again otherwise."""
    player = stage.enter()
    monkeypatch.setattr(stage.orders, "attempts_of", lambda *_: 1 / 0)
    player.say("job_started", "A", "1")

    assert player.socket.codes == ["internal"]
    assert player.socket.is_closing
