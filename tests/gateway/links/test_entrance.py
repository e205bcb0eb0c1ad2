"""From hello to welcome: who is let in, to which connection, and when."""

from dataclasses import replace

import pytest

from persistence.orders.credentials import Credential
from persistence.sanitize.crawler_secret import hash_of, new_secret
from support.gateway.stages import OPEN, TRUSTED, Stage

HELLO = {"protocol": 1, "crawlerId": "one", "n": 1}


def test_a_crawler_is_welcomed_only_when_its_row_names_its_link(stage: Stage) -> None:
    """Before that nothing is said to it, and nothing more is read."""
    player = stage.connect()
    player.say("hello", **HELLO, capacity=3)
    known = player.socket.is_known
    silent, paused = list(player.socket.sent), player.socket.is_paused
    player.attach()

    assert (silent, paused) == ([], True)
    (welcome,) = player.socket.said("welcome")
    assert welcome["connectionId"] == player.id
    assert welcome["session"] == player.session
    assert not player.socket.is_paused
    assert known  # it is no stranger while it waits
    (link,) = stage.reports.links
    assert link == {
        "connection_id": player.id,
        "crawler_id": "one",
        "n": 1,
        "link": player.claim.link,
        "gateway": "east",
        "capacity": 3,
        "session_hash": link["session_hash"],
        "credential_id": None,
    }
    assert player.session not in str(link)


def test_the_welcome_lists_the_live_orders(stage: Stage) -> None:
    """With their tokens; one that ended while the link entered is not among them."""
    player = stage.connect()
    player.say("hello", **HELLO)
    stage.orders.live[player.id] = [player.order("A"), player.order("B")]
    stage.do(lambda: stage.registry.ended(player.id, "A", "Cancelled"), 0)
    player.attach()

    (welcome,) = player.socket.said("welcome")
    assert [(job["id"], job["accessToken"]) for job in welcome["jobs"]] == [("B", "a-token")]


def test_an_order_that_comes_while_the_link_enters_is_handed_over_once(stage: Stage) -> None:
    """The welcome has it; the feed, which tells of it too, is not believed twice."""
    player = stage.connect()
    player.say("hello", **HELLO)
    stage.orders.live[player.id] = [player.order("A")]
    player.hand_over(player.order("A"))
    player.attach()
    player.hand_over(player.order("A"))

    assert [job["id"] for job in player.socket.said("welcome")[0]["jobs"]] == ["A"]
    assert player.socket.said("job_response") == []


def test_what_is_sent_before_the_welcome_is_taken_after_it(stage: Stage) -> None:
    """A crawler that sends hello and more in one go is understood; it cannot fill the memory."""
    player = stage.connect()
    player.say("hello", **HELLO)
    player.say("ping", nonce="early")
    player.attach()
    other = stage.connect()
    other.say("hello", **HELLO)
    for _ in range(200):
        other.say("ping", nonce="x")

    assert player.socket.said("pong") == [{"nonce": "early"}]
    assert other.socket.codes == ["hello_expected"]
    assert other.socket.is_closing


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"{", "hello_expected"),
        (b"[]", "hello_expected"),
        (b'{"type": "heartbeat", "data": {}}', "hello_expected"),
        (b'{"type": "hello", "data": {"protocol": 2, "crawlerId": "one", "n": 1}}', "unsupported_protocol"),
        (b'{"type": "hello", "data": {"protocol": 1, "n": 1}}', "hello_expected"),
        (b'{"type": "hello", "data": {"protocol": 1, "crawlerId": "one", "n": true}}', "hello_expected"),
        (b'{"type": "hello", "data": {"protocol": 1, "crawlerId": "one", "n": -1}}', "hello_expected"),
        (
            b'{"type": "hello", "data": {"protocol": 1, "crawlerId": "a", "n": 1, "secret": 5}}',
            "hello_expected",
        ),
        (
            b'{"type": "hello", "data": {"protocol": 1, "crawlerId": "a", "n": 1, "capacity": 1001}}',
            "hello_expected",
        ),
    ],
)
def test_what_is_no_hello_is_refused(stage: Stage, frame: bytes, code: str) -> None:
    """The link is told why, and closed; nothing is published."""
    player = stage.connect()
    player.say_raw(frame)

    assert player.socket.codes == [code]
    assert player.socket.is_closing
    assert stage.reports.links == []


def test_who_says_nothing_is_sent_away(stage: Stage) -> None:
    """Ten seconds after it connected."""
    player = stage.connect()
    stage.pass_time(10, player)
    patient = player.socket.is_closing
    stage.pass_time(1, player)

    assert not patient
    assert player.socket.codes == ["hello_expected"]


def test_a_secret_lets_in_and_bounds_the_capacity(stage: Stage) -> None:
    """What its credential allows is the most, whatever hello and later requests ask for."""
    secret = new_secret()
    stage.credentials.known[hash_of(secret)] = Credential("credential-1", "east-fleet", 2)
    player = stage.connect(OPEN, uid=None, address="127.0.0.1:5000")
    player.say("hello", **HELLO, capacity=50, secret=secret)
    player.attach()
    player.say("job_request", capacity=50)

    assert stage.reports.links[0]["credential_id"] == "credential-1"
    assert stage.reports.links[0]["capacity"] == 2
    assert stage.reports.beats[-1]["capacity"] == 2
    assert player.link.hello
    assert player.link.hello.secret is None
    assert secret not in repr(player.link.hello)


@pytest.mark.parametrize(
    "secret", [None, "", "cyc_wrong", new_secret()], ids=["none", "empty", "wrong", "unknown"]
)
def test_wrong_and_unknown_secrets_get_the_same_answer(
    stage: Stage, secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tells what was wrong with it."""
    monkeypatch.setattr("gateway.links.hello._FIRST_DELAY_S", 0)
    player = stage.connect(OPEN, uid=None, address="127.0.0.1:5000")
    player.say("hello", **HELLO, **({} if secret is None else {"secret": secret}))

    assert player.socket.said("error") == [
        {"code": "unauthenticated", "message": "the gateway does not know this crawler", "closes": True}
    ]
    assert stage.reports.links == []


def test_wrong_secrets_are_answered_more_and_more_slowly(stage: Stage) -> None:
    """Each address by itself; another is not held up."""
    delays = [stage.door._delay("10.0.0.1") for _ in range(8)]

    assert delays == [0.5, 1, 2, 4, 8, 8, 8, 8]
    assert stage.door._delay("10.0.0.2") == 0.5


def test_another_user_is_not_trusted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that trusts the gateway's own user trusts no other one, and nobody whose user is not known."""
    monkeypatch.setattr("gateway.links.hello._FIRST_DELAY_S", 0)
    for uid in (1001, 0, None):
        player = stage.connect(uid=uid)
        player.say("hello", **HELLO)
        assert player.socket.codes == ["unauthenticated"]


def test_an_address_of_one_crawler_lets_no_other_in(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it can show."""
    monkeypatch.setattr("gateway.links.hello._FIRST_DELAY_S", 0)
    listener = replace(TRUSTED, crawler="two")
    one, two = stage.connect(listener), stage.connect(listener)
    one.say("hello", **HELLO)
    two.say("hello", **HELLO | {"crawlerId": "two"})

    assert one.socket.codes == ["unauthenticated"]
    assert two.socket.codes == []
    assert two.socket.is_known


def test_what_is_known_of_crawlers_that_came_once_is_forgotten(stage: Stage) -> None:
    """Memory stays flat, however many come."""
    for n in range(50):
        stage.enter(f"c-{n}").close()
    kept = len(stage.registry._entrances)
    stage.now += 61
    stage.enter("late")

    assert kept == 50
    assert len(stage.registry._entrances) == 1


def test_many_hellos_with_one_secret_ask_the_database_once(stage: Stage) -> None:
    """Ten thousand crawlers come back at once; what a credential was a moment ago, it still is."""
    secret = new_secret()
    stage.credentials.known[hash_of(secret)] = Credential("credential-1", "east-fleet", None)
    for n in range(5):
        stage.connect(OPEN, uid=None).say("hello", **HELLO | {"crawlerId": f"c-{n}"}, secret=secret)
    stage.now += 3
    stage.connect(OPEN, uid=None).say("hello", **HELLO, secret=secret)

    assert stage.credentials.asked == 2


def test_a_session_brings_its_connection_back(stage: Stage) -> None:
    """The same connection is attached over a new link, under the same session."""
    first = stage.enter()
    first.close()
    second = stage.enter(n=2, session=first.session)

    assert second.id == first.id
    assert second.claim.link != first.claim.link
    assert second.socket.said("welcome")[0]["session"] == first.session


def test_a_session_that_is_over_gets_a_fresh_connection(stage: Stage) -> None:
    """The welcome has another session, which tells the crawler."""
    first = stage.enter()
    first.close()
    second = stage.connect()
    second.say("hello", **HELLO | {"n": 2}, session=first.session)
    stage.do(lambda: stage.registry.connection_closed(first.id, known=True))
    asked = list(stage.orders.looked_at)
    row = second.row(is_active=False)
    stage.do(lambda: stage.registry.reconciled(first.id, row, frozenset()))
    second.attach()

    assert asked == [first.id]
    assert second.id != first.id
    assert second.socket.said("welcome")[0]["session"] not in (first.session, None)
    assert stage.registry.connections() == {second.id}


@pytest.mark.parametrize(
    "changes",
    [{"is_active": False}, {"said_goodbye": True}, {"session_hash": "0" * 64}, {"credential_id": "another"}],
)
def test_a_row_of_somebody_else_is_not_taken_over(stage: Stage, changes: dict[str, object]) -> None:
    """Also where only the comparison with the row tells."""
    first = stage.enter()
    first.close()
    second = stage.connect()
    second.say("hello", **HELLO | {"n": 2}, session=first.session)
    row = second.row(**changes)
    stage.do(lambda: stage.registry.reconciled(first.id, row, frozenset()))
    second.attach()

    assert second.id != first.id
    assert second.socket.said("welcome")


def test_what_is_no_session_counts_as_none(stage: Stage) -> None:
    """The crawler gets a connection of its own."""
    player = stage.enter(session="' OR 1=1")

    assert player.socket.said("welcome")[0]["session"] == player.session


def test_a_link_with_a_lower_number_is_superseded_at_once(stage: Stage) -> None:
    """The one that is open stays open."""
    first = stage.enter(n=5)
    second = stage.connect()
    second.say("hello", **HELLO | {"n": 4}, session=first.session)

    assert second.socket.codes == ["superseded"]
    assert not first.socket.is_closing
    assert len(stage.reports.links) == 1


def test_a_link_that_comes_too_late_is_superseded(stage: Stage) -> None:
    """Another gateway has a newer one: the row tells."""
    first = stage.enter()
    first.close()
    second = stage.connect()
    second.say("hello", **HELLO | {"n": 2}, session=first.session)
    stage.do(lambda: stage.registry.attached(first.id, 3, "link-of-another-gateway"))

    assert second.socket.codes == ["superseded"]


def test_a_connection_too_many_is_refused(stage: Stage) -> None:
    """Its crawler is told when to come again."""
    player = stage.connect()
    player.say("hello", **HELLO)
    stage.do(lambda: stage.registry.connection_refused(player.id))

    (error,) = player.socket.said("error")
    assert (error["code"], error["retryAfterSeconds"]) == ("too_many_connections", 30)


def test_a_crawler_that_comes_again_and_again_is_held_off(stage: Stage) -> None:
    """Longer each time; after a quiet minute it is welcome again."""
    player = stage.enter()
    for n in range(2, 22):
        player = stage.enter(n=n, session=player.session)
    waits = []
    for n in range(22, 25):
        late = stage.connect()
        late.say("hello", **HELLO | {"n": n}, session=player.session)
        waits += [error["retryAfterSeconds"] for error in late.socket.said("error")]
        assert late.socket.codes == ["held_off"]
    stage.now += 61

    assert waits == [2, 4, 8]
    assert stage.enter(n=30, session=player.session).socket.said("welcome")


def test_two_processes_with_one_name_both_live(stage: Stage) -> None:
    """The one that was there is asked whether it lives."""
    first = stage.enter("shared")
    second = stage.enter("shared")

    assert first.id != second.id
    assert len(first.socket.said("ping")) == 1
    assert not first.socket.is_closing
    assert stage.reports.lost_links == []
