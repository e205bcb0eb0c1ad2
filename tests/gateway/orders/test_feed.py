"""The feed tells a gateway's links what happens to them, and nothing of others."""

from time import monotonic

from persistence.schema.ids import ConnectionId
from support.gateway.feeds import followed
from support.worlds.discoveries import Discoverer, group
from support.worlds.links import SESSION, attach, link
from support.worlds.world import World

ONE, TWO = "01J0000000000000000000CNN1", "01J0000000000000000000CNN2"


def test_an_order_is_handed_over_with_its_token(world: World) -> None:
    """Once, and with all that its crawler needs."""
    crawler = world.crawler(capacity=1)
    (job,) = world.jobs(1)
    with followed(crawler.id) as gateway:
        world.assign()
        (fence,) = crawler.orders()

        assert gateway.look() == [("handed_over", crawler.id, fence)]
        assert gateway.look() == []
        order = gateway.told.orders[fence]

    assert order.access_token == "glpat-abcdefghij0123456789"
    assert "glpat" not in repr(order)
    assert (order.account_id, order.command, order.entity_type) == ("acc", "project", "project")
    assert order.gitlab_url == "https://gitlab.example.org"
    assert order.entity_id == world.job(job).full_path
    assert (order.resume_state, order.discoveries) == (None, ())


def test_orders_do_not_wait_for_their_turn(world: World) -> None:
    """The next look pays for the query by which they are read."""
    crawler = world.crawler(capacity=1)
    world.jobs(1)
    world.assign()
    (fence,) = crawler.orders()
    with followed(crawler.id) as gateway:
        feed = gateway.feed
        feed._assigned.append((ConnectionId(crawler.id), fence))
        feed._pace._next = due = monotonic() + 3600
        gateway.run(feed._hand_over())

        assert gateway.told.take() == [("handed_over", crawler.id, fence)]
        assert feed._pace._next > due


def test_the_ends_of_attempts_are_told(world: World) -> None:
    """Those that the crawler has reported, and those that were revoked."""
    crawler, orders = world.crawler_with_jobs(3)
    with followed(crawler.id) as gateway:
        crawler.sends("job_completed", orders[0], success=True, finalCounts={})
        crawler.fails(orders[1])
        world.deliver(
            "jobs.cancel",
            job_ids=[
                world.scalar(
                    "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :id",
                    id=orders[2],
                )
            ],
        )

        assert gateway.look() == [
            ("ended", crawler.id, orders[0], "reported"),
            ("ended", crawler.id, orders[1], "reported"),
            ("ended", crawler.id, orders[2], "Cancelled"),
        ]


def test_what_concerns_the_links_of_others_is_not_told(world: World) -> None:
    """Neither their orders nor their ends."""
    with followed(ONE) as gateway:
        other, [order] = world.crawler_with_jobs(1)
        other.sends("job_completed", order, success=True, finalCounts={})

        assert gateway.look() == []


def test_an_order_that_has_ended_meanwhile_is_not_handed_over(world: World) -> None:
    """Its end alone is told."""
    crawler = world.crawler(capacity=1)
    world.jobs(1)
    with followed(crawler.id) as gateway:
        world.assign()
        (fence,) = crawler.orders()
        crawler.fails(fence, recoverable=False)

        assert gateway.look() == [("ended", crawler.id, fence, "reported")]


def test_an_applied_discovery_is_told(world: World) -> None:
    """By its attempt and its timestamp as sent; ordinary progress is not told."""
    discoverer = Discoverer.at_work(world)
    with followed(discoverer.crawler.id) as gateway:
        discoverer.crawler.sends(
            "job_progress", discoverer.order, stage="fetching", entityType="areas", processed=1
        )
        discoverer.finds(group("a", 1), at="2026-05-04T05:02:01.50+02:00")

        assert gateway.look() == [("discovery_applied", discoverer.order, "2026-05-04T05:02:01.50+02:00")]
        (order,) = gateway.run(gateway.feed.live_orders(ConnectionId(discoverer.crawler.id)))

    assert order.discoveries == ("2026-05-04T05:02:01.50+02:00",)


def test_what_links_ask_is_answered(world: World) -> None:
    """Their live orders, whose attempts these are, and which messages have been handled."""
    crawler, orders = world.crawler_with_jobs(2)
    _, [foreign] = world.crawler_with_jobs(1)
    crawler.sends("job_completed", orders[0], success=True, finalCounts={})
    world.sends(crawler.frame("heartbeat", systemStatus="idle"), message="a-message")
    mine = ConnectionId(crawler.id)
    with followed(crawler.id) as gateway:
        feed = gateway.feed
        (live,) = gateway.run(feed.live_orders(mine))
        attempts = gateway.run(feed.attempts_of(mine, [*orders, foreign, "never-given"]))
        assert gateway.run(feed.live_orders(ConnectionId(ONE))) == []
        assert gateway.run(feed.handled.handled(["a-message", "another"])) == {"a-message"}

    assert (live.crawler_job_id, live.access_token) == (orders[1], "glpat-abcdefghij0123456789")
    assert (attempts.live, attempts.closed) == ({orders[1]}, {orders[0]})


def test_credentials_are_found_and_revoked(world: World) -> None:
    """One that is not there counts as revoked."""
    with world.unit() as uow:
        uow.crawler_credentials.enroll("east", "aa" * 32, 3)
        uow.crawler_credentials.enroll("west", "bb" * 32, None)
        uow.crawler_credentials.revoke("west")
        uow.commit()
    with followed() as gateway:
        credentials = gateway.feed.credentials
        east = gateway.run(credentials.find("aa" * 32))
        assert east is not None
        assert (east.name, east.capacity) == ("east", 3)
        assert gateway.run(credentials.find("bb" * 32)) is None

        assert gateway.run(credentials.revoked([east.credential_id, "unknown"])) == {"unknown"}


def test_links_are_told_that_they_are_attached(world: World) -> None:
    """With their number and name; and that a session cannot be resumed."""
    with followed(ONE) as gateway:
        attach(world, link(ONE, 1))
        assert gateway.look() == [("attached", ONE, 1, "link-1")]

        attach(world, link(ONE, 2, session_hash="00" * 32))
        assert gateway.look() == [("connection_closed", ONE, True)]


def test_a_beat_of_an_unknown_connection_is_told(world: World) -> None:
    """Its row is not there."""
    with followed(ONE) as gateway:
        world.deliver("connections.heartbeat", beats=[{"connection_id": ONE}])

        assert gateway.look() == [("connection_closed", ONE, False)]


def test_the_row_of_a_link_is_compared(world: World) -> None:
    """With its live attempts; a connection without a row is told as such."""
    attach(world, link(ONE, 1, capacity=2))
    world.jobs(2)
    world.assign()
    with followed(ONE, TWO) as gateway:
        gateway.feed.look_at(ONE)
        gateway.feed.look_at(TWO)
        rows = gateway.rows()

    row, live = rows[ONE]
    assert row is not None
    assert (row.is_active, row.said_goodbye, row.n, row.link) == (True, False, 1, "link-1")
    assert (row.session_hash, row.credential_id) == (SESSION, "credential")
    assert live == {fence for (fence,) in world.rows("SELECT crawler_job_id FROM job_assignment_mapping")}
    assert rows[TWO] == (None, set())
