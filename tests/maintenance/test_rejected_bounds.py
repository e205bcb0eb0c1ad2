"""Rejected messages are kept within bounds: rows and bytes of one connection, and of all."""

from typing import Any

import pytest

from support.worlds.ages import clean_up
from support.worlds.world import World
from tasks.runtime.replay import UnreplayableError, original_arguments

ONE, OTHER, THIRD = (f"01KAQ3V1W0000000000000000{letter}" for letter in "ABC")


def bounded(monkeypatch: pytest.MonkeyPatch, world: World, **limits: int) -> None:
    """Set some of the bounds."""
    for name, limit in limits.items():
        monkeypatch.setenv(f"CRAWLYARD_MAX_REJECTED{name}", str(limit))
    world.reload_settings()


def junk(world: World, connection_id: str, number: int, size: int = 1) -> None:
    """A message with this many frames of a type that does not exist."""
    frame = {"type": "none such", "text": "x " * (size // 2)}
    world.deliver("crawler.frames", frames=[{"connection_id": connection_id, "frame": frame}] * number)


def kept(world: World) -> dict[str, int]:
    """The number of rejected rows by connection."""
    return dict(
        world.rows("SELECT COALESCE(connection_id, ''), count(*) FROM rejected_message GROUP BY 1 ORDER BY 1")
    )


def counted(world: World) -> dict[str, tuple[int, int]]:
    """What is counted: rows, and rows that were not kept."""
    return {
        id_: (rows, dropped)
        for id_, rows, dropped in world.rows("SELECT connection_id, rows, dropped FROM rejected_count")
    }


def test_a_connection_keeps_no_more_rows_than_its_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond it is counted, an event says so once, and another connection keeps its own."""
    bounded(monkeypatch, world, _PER_CONNECTION=5)

    junk(world, ONE, 4)
    junk(world, ONE, 4)
    junk(world, ONE, 4)
    junk(world, OTHER, 2)

    assert kept(world) == {ONE: 5, OTHER: 2}
    assert counted(world) == {ONE: (5, 7), OTHER: (2, 0), "*": (7, 7)}
    assert world.rows(
        "SELECT connection_id, payload FROM dispatch_event WHERE type = 'rejected_dropped'"
    ) == [(ONE, {})]


def test_beyond_its_bytes_a_connection_keeps_rows_without_a_payload(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says so, and cannot be replayed; a smaller payload still fits."""
    bounded(monkeypatch, world, _BYTES_PER_CONNECTION=3000)

    junk(world, ONE, 3, size=2000)
    junk(world, ONE, 1)

    rows = world.rows("SELECT payload IS NULL, bytes, detail FROM rejected_message ORDER BY id")
    says = sorted((is_missing, "payload was not kept" in detail) for is_missing, _, detail in rows)
    assert says == [(False, False), (False, False), (True, True), (True, True)]
    assert world.scalar("SELECT bytes FROM rejected_count WHERE connection_id = '*'") == sum(
        r[1] for r in rows
    )
    with pytest.raises(UnreplayableError, match="was not kept"):
        original_arguments("crawler.frames", "invalid", None)


def test_the_bytes_of_items_that_are_no_frames_are_bounded_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two heartbeats with an unknown field: there is room for the payload of one."""
    bounded(monkeypatch, world, _BYTES_PER_CONNECTION=3000)

    world.deliver("connections.heartbeat", beats=[{"connection_id": ONE, "text": "x " * 1000}] * 2)

    rows = world.rows("SELECT payload IS NULL, detail LIKE '%payload was not kept%' FROM rejected_message")
    assert sorted(map(tuple, rows)) == [(False, False), (True, True)]
    assert 2000 < world.scalar("SELECT bytes FROM rejected_count WHERE connection_id = '*'") < 3000


def test_crawlers_leave_half_of_all_to_messages_of_no_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number of connections send junk, an order of the web app that is rejected can be replayed."""
    bounded(monkeypatch, world, _PER_CONNECTION=3, **{"": 8})

    for connection_id in (ONE, OTHER, THIRD):
        junk(world, connection_id, 3)
    world.deliver("jobs.submit", orders=[{"account_id": f"nobody {number}"} for number in range(6)])

    assert kept(world) == {"": 4, ONE: 3, OTHER: 1}
    assert counted(world) == {"": (4, 2), ONE: (3, 0), OTHER: (1, 2), "*": (8, 7)}


def test_the_clean_up_counts_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were deleted make room, those of earlier versions count, and nothing is left of a gone connection."""
    bounded(monkeypatch, world, _PER_CONNECTION=2)
    junk(world, ONE, 3)
    junk(world, OTHER, 1)
    world.rows(f"DELETE FROM rejected_message WHERE connection_id = '{ONE}'")
    world.rows("""
        INSERT INTO rejected_message (id, reason, detail, payload) VALUES ('old', 'invalid', '', '[1, 2, 3]')
    """)

    clean_up(world)

    assert counted(world) == {"": (1, 0), OTHER: (1, 0), "*": (2, 1)}
    assert world.scalar("SELECT bytes FROM rejected_count WHERE connection_id = ''") > 0
    junk(world, ONE, 1)
    assert kept(world) == {"": 1, ONE: 1, OTHER: 1}


@pytest.mark.parametrize("named", [None, 5, "x", ONE.lower(), [ONE]], ids=repr)
def test_only_what_looks_like_a_connection_has_bounds_of_its_own(world: World, named: Any) -> None:
    """All else counts as of no connection."""
    world.deliver("crawler.frames", frames=[{"connection_id": named, "frame": {}}])

    assert counted(world) == {"": (1, 0), "*": (1, 0)}
