"""Which link a connection is reached over: the crawler's number decides, whatever order the messages come in."""

from itertools import permutations
from typing import Any

import pytest
from ulid import ULID

from persistence.settings import settings
from support.worlds.links import OTHER_SESSION, attach, link, lose, row
from support.worlds.world import World


def test_new_connections_are_opened_with_one_round_for_all(world: World) -> None:
    """Ten thousand crawlers reconnect after a restart; a round for each would take longer than their timeout."""
    ids = [str(ULID()) for _ in range(3)]

    attach(world, *(link(id_, 0, capacity=2) for id_ in ids))

    rows = [row(world, id_) for id_ in ids]
    assert [(r.crawler_id, r.gateway, r.link, r.incarnation, r.capacity) for r in rows] == [
        ("one", "east", "link-0", 0, 2)
    ] * 3
    assert world.published.of("jobs.assign") == [{}]
    assert len(world.events("connection_registered")) == 3
    assert [e.payload for e in world.events("connection_attached")] == [{"n": 0, "link": "link-0"}] * 3


def test_jobs_are_assigned_to_an_attached_connection(world: World) -> None:
    """Like to a registered one."""
    world.submit(world.order())
    id_ = str(ULID())

    attach(world, link(id_, 0))
    world.assign()

    assert len(row(world, id_).active_jobs) == 1


@pytest.mark.parametrize("order", [*permutations(range(4))], ids=lambda order: "".join(map(str, order)))
def test_the_newest_link_is_left_in_every_order_of_messages(world: World, order: tuple[int, ...]) -> None:
    """The first link is lost, the second replaces it: no order of the messages marks the second as lost."""
    id_ = str(ULID())
    said = [
        lambda: attach(world, link(id_, 1)),
        lambda: lose(world, id_, 1),
        lambda: attach(world, link(id_, 2, gateway="west")),
        lambda: attach(world, link(id_, 1)),  # delivered twice
    ]

    for place in order:
        said[place]()

    found = row(world, id_)
    assert (found.incarnation, found.link, found.gateway, found.lost_at) == (2, "link-2", "west", None)


def test_of_several_links_in_one_message_the_newest_counts(world: World) -> None:
    """Of two with the same number, the one with the greater name."""
    id_ = str(ULID())

    attach(world, link(id_, 7, link="b"), link(id_, 7, link="a"), link(id_, 3, link="c"))

    assert (row(world, id_).incarnation, row(world, id_).link) == (7, "b")


@pytest.mark.parametrize(
    "changes",
    [{"session_hash": OTHER_SESSION}, {"credential_id": "another"}, {"credential_id": None}],
    ids=lambda changes: str(*changes),
)
def test_a_foreign_session_takes_no_connection(world: World, changes: dict[str, Any]) -> None:
    """The connection stays with its crawler, and the gateway is told to begin a new session."""
    id_ = str(ULID())
    attach(world, link(id_, 1))
    before = row(world, id_)

    attach(world, link(id_, 2, **changes))

    assert row(world, id_) == before
    assert [(e.connection_id, e.payload) for e in world.events("connection_expired")] == [
        (id_, {"known": True})
    ]


def test_a_registered_connection_has_no_session_to_resume(world: World) -> None:
    """It was opened without one."""
    crawler = world.crawler()

    attach(world, link(crawler.id, 1))

    assert crawler.row().link is None
    assert len(world.events("connection_expired")) == 1


def test_a_closed_or_disconnected_connection_is_not_resumed(world: World) -> None:
    """It stays as it is."""
    closed, leaving = (str(ULID()) for _ in range(2))
    attach(world, link(closed, 1), link(leaving, 1))
    world.deliver("connections.disconnect", connection_id=closed)
    world.sweep()
    world.deliver("connections.disconnect", connection_id=leaving)

    attach(world, link(closed, 2), link(leaving, 2))

    assert [row(world, id_).incarnation for id_ in (closed, leaving)] == [1, 1]
    assert {e.connection_id for e in world.events("connection_expired")} == {closed, leaving}


def test_an_older_link_causes_no_new_session(world: World) -> None:
    """Its crawler has a newer one: nothing is told."""
    id_ = str(ULID())
    attach(world, link(id_, 2))

    attach(world, link(id_, 1))

    assert world.events("connection_expired") == []


def test_a_link_proves_life_and_brings_its_capacity(world: World) -> None:
    """The capacity is bounded, and that is told, as at a registration."""
    id_, most = str(ULID()), settings().max_capacity
    attach(world, link(id_, 1, capacity=1))
    world.rows("UPDATE socket_connection SET last_heartbeat = clock_timestamp() - interval '60 s'")

    attach(world, link(id_, 2, capacity=most + 1))
    world.sweep()

    found = row(world, id_)
    assert (found.is_active, found.capacity, found.asked_capacity) == (True, most, most + 1)
    assert [e.payload for e in world.events("capacity_limited")] == [{"asked": most + 1, "capacity": most}]


def test_links_beyond_the_bound_open_no_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are open are still reached over new links."""
    monkeypatch.setenv("CRAWLYARD_MAX_CONNECTIONS", "2")
    world.reload_settings()
    ids = sorted(str(ULID()) for _ in range(4))
    attach(world, link(ids[3], 1))

    attach(world, *(link(id_, 2) for id_ in ids))

    assert [r.id for r in world.rows("SELECT id FROM socket_connection ORDER BY id")] == [ids[0], ids[3]]
    assert row(world, ids[3]).incarnation == 2
    assert world.rejections() == [("connections.attach", "too_many_connections")] * 2
    assert {e.connection_id for e in world.events("connection_refused")} == set(ids[1:3])


def test_a_bad_link_is_rejected_alone(world: World) -> None:
    """The others are attached."""
    id_ = str(ULID())

    attach(world, link("no ulid", 1), link(id_, 1), link(str(ULID()), -1))

    assert world.rejections() == [("connections.attach", "invalid")] * 2
    assert row(world, id_).is_active


def test_a_redelivered_message_changes_nothing(world: World) -> None:
    """Not even after the link was lost."""
    id_, message = str(ULID()), str(ULID())
    attach(world, link(id_, 1), message=message)
    lose(world, id_, 1)
    before = world.snapshot()

    attach(world, link(id_, 1), message=message)

    assert world.snapshot() == before
    assert row(world, id_).lost_at is not None
