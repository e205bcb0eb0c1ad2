"""Where changes may be missing, every link is compared with its row; until then the orders do not count as current."""

import pytest

from persistence.exceptions import DatabaseLost
from support.gateway.feeds import Followed, followed
from support.worlds.links import attach, link
from support.worlds.world import World

CONNECTIONS = [f"01J0000000000000000000CN{n:02}" for n in range(3)]

_END_SESSION = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'crawlyard gateway'
"""


def compared(gateway: Followed) -> list[str]:
    """Let the feed look, and return the connections that it compared."""
    assert gateway.look() == []
    rows = sorted(gateway.told.rows)
    gateway.told.rows.clear()
    return rows


def test_all_links_are_compared_at_the_start(world: World) -> None:
    """What was committed before the first look is read from the rows."""
    attach(world, *(link(id_, 1, capacity=1) for id_ in CONNECTIONS))
    world.jobs(3)
    world.assign()
    with followed(*CONNECTIONS) as gateway:
        live = {id_: fences for id_, (_, fences) in gateway.told.rows.items()}
        gateway.told.rows.clear()
        assert compared(gateway) == []  # the next slice is due a second later

    assert live.keys() == set(CONNECTIONS)
    assert [len(fences) for fences in live.values()] == [1, 1, 1]


def test_all_links_are_compared_after_the_session_was_lost(world: World) -> None:
    """Until then the orders are not current: some may be unknown, and a list of jobs would disown them."""
    with followed(*CONNECTIONS) as gateway:
        gateway.told.rows.clear()
        assert gateway.feed.is_current
        world.rows(_END_SESSION)
        with pytest.raises(DatabaseLost):
            gateway.look()

        assert compared(gateway) == CONNECTIONS
        assert gateway.feed.is_current


def test_all_links_are_compared_after_too_many_changes(world: World) -> None:
    """A full page may not be all."""
    with followed(*CONNECTIONS, page_rows=3) as gateway:
        gateway.told.rows.clear()
        world.jobs(2)
        assert compared(gateway) == []

        world.jobs(3)
        assert compared(gateway) == CONNECTIONS


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("_snapshot", "1152921504606846000:1152921504606846000:"), ("_server", "another one")],
    ids=["transactions are lost", "another server answers"],
)
def test_all_links_are_compared_when_the_server_is_not_the_one_before(
    world: World, attribute: str, value: str
) -> None:
    """A standby that was promoted may lack transactions that were seen, and use their numbers again."""
    with followed(*CONNECTIONS) as gateway:
        gateway.told.rows.clear()
        setattr(gateway.feed._changes, attribute, value)

        assert compared(gateway) == CONNECTIONS


def test_the_orders_are_not_current_until_the_last_link_is_compared(world: World) -> None:
    """Nor while the comparison fails."""
    with followed(*CONNECTIONS) as gateway:
        feed = gateway.feed
        feed._rotation.resync()
        world.rows("ALTER TABLE socket_connection RENAME TO away")
        try:
            with pytest.raises(Exception, match="UndefinedTable"):
                gateway.look()
            assert not feed.is_current
        finally:
            world.rows("ALTER TABLE away RENAME TO socket_connection")

        gateway.look()
        assert feed.is_current


def test_orders_wait_while_the_database_refuses_them(world: World) -> None:
    """An order that could not be read is read by a later look."""
    crawler = world.crawler(capacity=1)
    world.jobs(1)
    with followed(crawler.id) as gateway:
        world.assign()
        world.rows("ALTER TABLE account RENAME COLUMN access_token TO away")
        try:
            with pytest.raises(Exception, match="UndefinedColumn"):
                gateway.look()
        finally:
            world.rows("ALTER TABLE account RENAME COLUMN away TO access_token")

        assert gateway.look() == [("handed_over", crawler.id, *crawler.orders())]
