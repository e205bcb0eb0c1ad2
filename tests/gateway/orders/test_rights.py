"""The rights on Postgres that docs/gateway.md names are all that a gateway needs, and it writes nothing."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url

from gateway.metrics import metrics
from persistence.exceptions import CrawlyardError
from persistence.schema.ids import ConnectionId
from persistence.settings import settings
from support.gateway.feeds import followed
from support.worlds.world import World

ROLE = "reads_orders"

_GRANTS = f"""
    GRANT SELECT ON crawler_order, dispatch_event, socket_connection, handled_message, job_assignment_mapping,
                    crawler_credential TO {ROLE};
    GRANT SELECT (id, access_token) ON account TO {ROLE}
"""


@pytest.fixture
def role(world: World) -> Iterator[str]:
    """The URL of a role with these rights and no others."""
    with psycopg.connect(settings().psycopg_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
        try:
            admin.execute(_GRANTS)
            url = make_url(settings().psycopg_url).set(username=ROLE, password=ROLE)
            yield url.render_as_string(hide_password=False)
        finally:
            admin.execute(f"DROP OWNED BY {ROLE}")
            admin.execute(f"DROP ROLE {ROLE}")


@pytest.mark.unpooled("the pooler knows one role")
def test_the_rights_that_are_named_suffice(world: World, role: str) -> None:
    """For everything that a gateway reads."""
    crawler = world.crawler(capacity=1)
    world.jobs(1)
    mine = ConnectionId(crawler.id)
    with followed(crawler.id, url=role) as gateway:
        feed = gateway.feed
        feed.look_at(mine)
        assert gateway.rows().keys() == {crawler.id}
        world.assign()
        (fence,) = crawler.orders()

        assert gateway.look() == [("handed_over", crawler.id, fence)]
        (order,) = gateway.run(feed.live_orders(mine))
        assert order.access_token == "glpat-abcdefghij0123456789"
        assert gateway.run(feed.attempts_of(mine, [fence])).live == {fence}
        assert gateway.run(feed.handled.handled(["a"])) == set()
        assert gateway.run(feed.credentials.find("aa" * 32)) is None
        assert gateway.run(feed.credentials.revoked(["a"])) == {"a"}
        with pytest.raises(CrawlyardError):
            gateway.run(gateway.session.rows("DELETE FROM handled_message"))


def test_reads_are_counted(world: World) -> None:
    """And how long ago the last one was is known."""
    with followed() as gateway:
        before = metrics.counts["polls"]
        gateway.look()

        assert metrics.counts["polls"] == before + 1
        assert gateway.feed.age < 10
