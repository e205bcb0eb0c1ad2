"""Connections are registered once under an id, kept alive by any frame, and told when they are closed or unknown."""

from typing import Any

import pytest
from ulid import ULID

from persistence.fleet.open_connections import room_for_connections
from persistence.reports.statistics import read_statistics
from persistence.settings import settings
from support.worlds.world import Crawler, World
from tasks.fleet.batch import FrameBatch


def test_a_closed_id_is_not_registered_again(world: World) -> None:
    """An id serves once: the registration is rejected, and an event asks for a new id."""
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
    """It proves life, but changes no capacity and publishes nothing."""
    crawler = world.crawler(capacity=3)
    before = crawler.row()
    world.published.messages.clear()

    world.deliver("connections.register", connection_id=crawler.id, capacity=9)

    assert {**crawler.row()._mapping, "last_heartbeat": before.last_heartbeat} == before._mapping
    assert world.published.messages == []
    assert len(world.events("connection_registered")) == 1


def test_a_repeated_registration_counts_as_a_heartbeat(world: World) -> None:
    """A gateway that cannot see its row yet repeats the registration instead of sending heartbeats."""
    crawler = world.crawler()
    crawler.silent_for(60)

    world.deliver("connections.register", connection_id=crawler.id)
    world.sweep()

    assert crawler.row().is_active
    assert world.events("connection_lost") == []


def test_a_registration_redelivered_after_its_connection_closed_changes_nothing(world: World) -> None:
    """A message is processed once."""
    id_, message = str(ULID()), str(ULID())
    world.deliver("connections.register", message, connection_id=id_)
    world.rows("UPDATE socket_connection SET is_active = false, closed_at = clock_timestamp()")
    before = world.snapshot()

    world.deliver("connections.register", message, connection_id=id_)

    assert world.snapshot() == before


def test_last_heartbeat_only_moves_forward(world: World) -> None:
    """A database whose clock was set back does not make crawlers look silent."""
    crawler = world.crawler()
    crawler.silent_for(-60)
    before = crawler.row().last_heartbeat

    crawler.sends("heartbeat", systemStatus="discovering", activeJobs=0, totalProcessed=0)

    after = crawler.row()
    assert (after.last_heartbeat, after.system_status) == (before, "discovering")


def test_frames_in_quick_succession_write_one_heartbeat(world: World) -> None:
    """Every frame locks the row, but only news or a heartbeat older than the resolution is written."""
    crawler, (order,) = world.crawler_with_jobs()
    quick = settings().heartbeat_resolution * 0.2
    world.rows(
        "UPDATE socket_connection SET last_heartbeat = clock_timestamp() - CAST(:a AS interval)", a=quick
    )
    before = crawler.row()

    crawler.sends("job_started", order)
    assert crawler.row() == before
    crawler.sends("heartbeat", systemStatus="discovering", activeJobs=1, totalProcessed=0)
    row = crawler.row()
    assert (row.system_status, row.last_heartbeat > before.last_heartbeat) == ("discovering", True)

    crawler.silent_for(1.2 * settings().heartbeat_resolution.total_seconds())
    crawler.sends("job_progress", order, stage="fetching", entityType="issue", processed=1)
    assert crawler.row().last_heartbeat > row.last_heartbeat


def test_a_connection_is_not_silent_because_of_the_heartbeat_resolution(world: World) -> None:
    """A heartbeat that was not written does not count against the crawler: the limit is longer by the resolution."""
    crawler, orders = world.crawler_with_jobs()
    timeout = settings().connection_timeout.total_seconds()
    as_of = world.now()
    last = "UPDATE socket_connection SET last_heartbeat = CAST(:as_of AS timestamptz) - make_interval(secs => :s)"

    world.rows(last, as_of=as_of, s=1.005 * timeout)
    world.sweep(as_of)
    assert crawler.orders() == orders

    world.rows(last, as_of=as_of, s=1.011 * timeout)
    world.sweep(as_of)
    assert crawler.orders() == []


def test_a_heartbeat_with_side_effects_is_processed_once(world: World) -> None:
    """A message delivered twice leaves its events and rejections once."""
    crawler = world.crawler()
    beats = [{"connection_id": crawler.id}, {"connection_id": str(ULID())}]

    for beats_of_message in (beats, [*beats, {"connection_id": "no ulid"}]):
        message = str(ULID())
        world.deliver("connections.heartbeat", message, beats=beats_of_message)
        world.deliver("connections.heartbeat", message, beats=beats_of_message)

    assert len(world.events("connection_expired")) == 2
    assert world.rejections() == [("connections.heartbeat", "invalid")]


def test_secrets_of_a_registration_are_not_stored(world: World) -> None:
    """Neither the row nor the event has them."""
    token = "glpat-abcdefghij0123456789"
    world.crawler(crawler_id=f"crawler {token}", metadata={"token": token, "os": "linux"})

    assert token not in str(world.rows("SELECT s, e FROM socket_connection s, dispatch_event e"))
    assert world.scalar("SELECT metadata ->> 'os' FROM socket_connection") == "linux"


def test_large_metadata_of_a_registration_is_cut(world: World) -> None:
    """Of a megabyte, the first 64 KiB of its JSON are kept, and the connection is open."""
    world.crawler(metadata={"os": "linux", "text": "x " * 500_000})

    size = "octet_length(metadata::text)"
    beginning = """left(metadata ->> 'cut', 14)"""
    assert world.rows(f"SELECT is_active, {size} < 66000, {beginning} FROM socket_connection") == [
        (True, True, '{"os": "linux"')
    ]


def test_the_last_value_of_each_field_of_several_heartbeats_wins() -> None:
    """A field that a later heartbeat does not report stays; a count and a list replace each other."""
    batch = FrameBatch()
    batch.add_heartbeat("a", "error", ["x", "y"], 7)
    batch.add_heartbeat("a")
    (beat,) = batch.beats.values()
    assert (beat.system_status, beat.reported, beat.reported_jobs, beat.capacity) == (
        "error",
        2,
        ["x", "y"],
        7,
    )

    batch.add_heartbeat("a", active_jobs=3)
    (beat,) = batch.beats.values()
    assert (beat.system_status, beat.reported, beat.reported_jobs, beat.capacity) == ("error", 3, None, 7)


def test_no_more_connections_are_open_than_the_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one is refused and told so; those that are open keep their jobs, and one that ends makes room."""
    monkeypatch.setenv("CRAWLYARD_MAX_CONNECTIONS", "2")
    world.reload_settings()
    first, second, third = world.crawler(), world.crawler(), str(ULID())

    world.deliver("connections.register", connection_id=third)
    world.deliver("connections.register", connection_id=second.id)

    assert world.scalar("SELECT count(*) FROM socket_connection WHERE is_active") == 2
    assert world.rejections() == [("connections.register", "too_many_connections")]
    assert [(e.connection_id, e.payload) for e in world.events("connection_refused")] == [
        (third, {"reason": "too_many_connections", "limit": 2})
    ]
    assert read_statistics().refused_beyond_bounds == {"socket_connection": 1}

    first.silent_for(60)
    world.sweep()
    world.deliver("connections.register", connection_id=third)

    assert world.scalar("SELECT is_active FROM socket_connection WHERE id = :id", id=third)


def test_connections_are_counted_only_near_the_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far below it the last sweep's count is taken; from half of it on they are counted."""
    monkeypatch.setenv("CRAWLYARD_MAX_CONNECTIONS", "3")
    world.reload_settings()
    world.crawler()
    world.sweep()
    with world.unit() as uow:
        world.rows("INSERT INTO socket_connection (id) VALUES ('a'), ('b')")
        assert room_for_connections(uow._session) == 3
    world.sweep()

    with world.unit() as uow:
        assert room_for_connections(uow._session) == 0


EARLIER, LATER, LONG_BEFORE = "2026-05-04T03:02:01Z", "2026-05-04T05:02:01.5+02:00", "2026-05-04T02:00:00Z"
"""Of one crawler's clock: 2026-05-04T03:02:01.5 UTC is later by half a second."""


def said(crawler: Crawler, kind: str, timestamp: str, **data: Any) -> dict[str, Any]:
    """A frame with this timestamp."""
    item = crawler.frame(kind, **data)
    return {**item, "frame": item["frame"] | {"timestamp": timestamp}}


@pytest.mark.parametrize("together", [True, False], ids=["in one message", "in two"])
@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("job_request", {"capacity": 5}, {"capacity": 0}),
        ("heartbeat", {"activeJobs": []}, {"activeJobs": ["a"]}),
    ],
    ids=["capacity", "list"],
)
def test_of_two_words_that_changed_places_the_later_one_stays(
    world: World, kind: str, before: dict[str, Any], after: dict[str, Any], together: object
) -> None:
    """A drain is not undone, nor a job missed that has been listed since."""
    crawler = world.crawler(capacity=3)
    frames = [said(crawler, kind, LATER, **after), said(crawler, kind, EARLIER, **before)]

    for message in [frames] if together else [[frame] for frame in frames]:
        world.sends(*message)

    found = crawler.row()
    assert found.capacity == after.get("capacity", 3)
    assert found.reported_jobs == after.get("activeJobs")


def test_a_word_from_a_clock_that_was_set_back_counts(world: World) -> None:
    """It is older by more than any message is late."""
    crawler = world.crawler()
    world.sends(said(crawler, "job_request", LATER, capacity=0))
    world.sends(said(crawler, "job_request", LONG_BEFORE, capacity=4))
    world.sends(said(crawler, "job_request", LONG_BEFORE, capacity=2))

    assert crawler.row().capacity == 2


def test_heartbeats_may_say_when_their_crawler_spoke(world: World) -> None:
    """As frames do; without a time the last one counts."""
    crawler = world.crawler()

    def beat(capacity: int, **when: str) -> int:
        beats = [{"connection_id": crawler.id, "capacity": capacity, **when}]
        world.deliver("connections.heartbeat", beats=beats)
        return int(crawler.row().capacity)

    assert [beat(1, timestamp=LATER), beat(2, timestamp=EARLIER), beat(3), beat(4, timestamp=EARLIER)] == [
        1,
        1,
        3,
        3,
    ]


@pytest.mark.parametrize(
    "timestamp", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-05-04T03:02:01+23:59"]
)
def test_any_time_of_a_crawler_is_accepted(world: World, timestamp: str) -> None:
    """Also one that no database stores."""
    crawler = world.crawler()

    world.sends(
        said(crawler, "job_request", timestamp, capacity=2),
        said(crawler, "heartbeat", timestamp, activeJobs=1),
    )

    assert (crawler.row().capacity, crawler.row().reported) == (2, 1)
    assert world.rejections() == []
