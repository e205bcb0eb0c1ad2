"""Connections: registered once under an id, kept alive by whatever is said, and told when they are none."""

from ulid import ULID

from persistence.settings import settings
from support.worlds.world import World
from tasks.fleet.batch import Speech


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
    """But that it lives: not its capacity, and nobody is rung."""
    crawler = world.crawler(capacity=3)
    before = crawler.row()
    world.rung.bells.clear()

    world.deliver("connections.register", connection_id=crawler.id, capacity=9)

    assert {**crawler.row()._mapping, "last_heartbeat": before.last_heartbeat} == before._mapping
    assert world.rung.bells == []
    assert len(world.events("connection_registered")) == 1


def test_a_registration_said_again_proves_life(world: World) -> None:
    """A gateway that cannot see its row yet repeats the registration and does not beat: it is not silent."""
    crawler = world.crawler()
    crawler.silent_for(60)

    world.deliver("connections.register", connection_id=crawler.id)
    world.sweep()

    assert crawler.row().is_active
    assert world.events("connection_lost") == []


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

    crawler.says("heartbeat", systemStatus="discovering", activeJobs=0, totalProcessed=0)

    after = crawler.row()
    assert (after.last_heartbeat, after.system_status) == (before, "discovering")


def test_words_in_quick_succession_are_one_sign_of_life(world: World) -> None:
    """The row is written once a hundredth of the timeout, or with anything that is news; each word locks it."""
    crawler, (order,) = world.working()
    quick = settings().life_step * 0.2
    world.rows(
        "UPDATE socket_connection SET last_heartbeat = clock_timestamp() - CAST(:a AS interval)", a=quick
    )
    before = crawler.row()

    crawler.says("job_started", order)
    assert crawler.row() == before
    crawler.says("heartbeat", systemStatus="discovering", activeJobs=1, totalProcessed=0)
    told = crawler.row()
    assert (told.system_status, told.last_heartbeat > before.last_heartbeat) == ("discovering", True)

    crawler.silent_for(1.2 * settings().life_step.total_seconds())
    crawler.says("job_progress", order, stage="fetching", entityType="issue", processed=1)
    assert crawler.row().last_heartbeat > told.last_heartbeat


def test_who_spoke_within_a_sign_of_life_is_not_silent_for_it(world: World) -> None:
    """What was not written is not held against anybody: the verdict waits for as long."""
    crawler, orders = world.working()
    timeout = settings().connection_timeout.total_seconds()
    as_of = world.now()
    last = "UPDATE socket_connection SET last_heartbeat = CAST(:as_of AS timestamptz) - make_interval(secs => :s)"

    world.rows(last, as_of=as_of, s=1.005 * timeout)
    world.sweep(as_of)
    assert crawler.orders() == orders

    world.rows(last, as_of=as_of, s=1.011 * timeout)
    world.sweep(as_of)
    assert crawler.orders() == []


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
