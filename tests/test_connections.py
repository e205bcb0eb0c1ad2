"""Connections: registered once under an id, kept alive by whatever is said, and told when they are none."""

from ulid import ULID

from support.world import World
from tasks.speech import Speech


def test_a_closed_id_is_not_registered_again(world: World) -> None:
    """An id serves once: it is rejected, and an event tells to register under a new one."""
    crawler = world.crawler()
    crawler.silent_for(60)
    world.sweep()

    world.deliver("connections.register", connection_id=crawler.id)

    assert world.rejections() == [("connections.register", "connection_closed")]
    assert crawler.row().is_active is False
    assert [(e.connection_id, e.payload) for e in world.events("connection_expired")] == [
        (crawler.id, {"known": True})
    ]


def test_a_live_id_registered_again_changes_nothing(world: World) -> None:
    """Neither its capacity nor its heartbeat; nobody is rung."""
    crawler = world.crawler(capacity=3)
    before = crawler.row()
    world.rung.bells.clear()

    world.deliver("connections.register", connection_id=crawler.id, capacity=9)

    assert crawler.row() == before
    assert world.rung.bells == []
    assert len(world.events("connection_registered")) == 1


def test_a_registration_delivered_again_after_the_end_of_its_connection_is_once(world: World) -> None:
    """The same message says nothing new."""
    id_, message = str(ULID()), str(ULID())
    world.deliver("connections.register", message, connection_id=id_)
    world.rows("UPDATE socket_connection SET is_active = false, closed_at = clock_timestamp()")
    before = world.snapshot()

    world.deliver("connections.register", message, connection_id=id_)

    assert world.snapshot() == before


def test_a_heartbeat_moves_forward_only(world: World) -> None:
    """A database whose clock was set back must not make its crawlers look silent."""
    crawler = world.crawler()
    crawler.silent_for(-60)
    before = crawler.row().last_heartbeat

    crawler.says("heartbeat")

    assert crawler.row().last_heartbeat == before


def test_a_heartbeat_that_leaves_more_than_a_beat_is_heard_once(world: World) -> None:
    """Events and rejections of a message delivered twice are there once."""
    crawler, message = world.crawler(), str(ULID())
    beats = [{"connection_id": crawler.id}, {"connection_id": str(ULID())}, {"connection_id": "no ulid"}]

    world.deliver("connections.heartbeat", message, beats=beats)
    world.deliver("connections.heartbeat", message, beats=beats)

    assert len(world.events("connection_expired")) == 1
    assert world.rejections() == [("connections.heartbeat", "invalid")]


def test_secrets_of_a_registration_are_not_stored(world: World) -> None:
    """Neither in the row nor in the event."""
    token = "glpat-abcdefghij0123456789"
    world.crawler(crawler_id=f"crawler {token}", metadata={"token": token, "os": "linux"})

    assert token not in str(world.rows("SELECT s, e FROM socket_connection s, dispatch_event e"))
    assert world.one("SELECT metadata ->> 'os' FROM socket_connection") == "linux"


def test_of_several_beats_the_last_word_on_each_thing_stands() -> None:
    """What a later beat does not say stays; a count and a list are one word."""
    speech = Speech()
    speech.beat("a", "error", ["x", "y"], 7)
    speech.beat("a")
    (beat,) = speech.beats.values()
    assert (beat.system_status, beat.reported, beat.reported_jobs, beat.capacity) == (
        "error",
        2,
        ["x", "y"],
        7,
    )

    speech.beat("a", active_jobs=3)
    (beat,) = speech.beats.values()
    assert (beat.system_status, beat.reported, beat.reported_jobs, beat.capacity) == ("error", 3, None, 7)
