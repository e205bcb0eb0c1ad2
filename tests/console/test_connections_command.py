"""`crawlyard connections`, and the reads behind it: the list, and single connections with their attempts."""

from persistence.reports.connections import active_connections, find_connections
from support.command import Run
from support.worlds.world import World


def test_active_connections_are_listed_page_by_page(world: World) -> None:
    """Pages are in the order of the ids, and contain no closed connection."""
    ids = sorted(world.crawler(crawler_id=f"crawler-{n}").id for n in range(3))
    gone = world.crawler()
    gone.silent_for(60)
    world.sweep()

    first = active_connections(limit=2)
    rest = active_connections(after=first[-1].id)

    assert [connection.id for connection in first + rest] == ids
    assert {connection.crawler_id for connection in first + rest} == {"crawler-0", "crawler-1", "crawler-2"}


def test_a_connection_is_shown_with_its_attempts(world: World) -> None:
    """A closed connection is shown too if its id is given; an unknown id is left out."""
    crawler, orders = world.crawler_with_jobs(2)
    closed = world.crawler()
    closed.silent_for(60)
    world.sweep()

    found = {connection.id: connection for connection in find_connections([crawler.id, closed.id, "none"])}

    assert found.keys() == {crawler.id, closed.id}
    assert [attempt.crawler_job_id for attempt in found[crawler.id].attempts] == orders
    assert (found[crawler.id].live, found[crawler.id].capacity, found[crawler.id].is_active) == (2, 2, True)
    assert (found[closed.id].is_active, found[closed.id].silent_for, found[closed.id].attempts) == (
        False,
        None,
        [],
    )


def test_the_command_shows_connections(world: World, run: Run) -> None:
    """Output is text or JSON; an unknown id exits with 1."""
    crawler, (order,) = world.crawler_with_jobs()

    assert crawler.id in run("connections").out
    assert order in run("connections", crawler.id).out
    (shown,) = run("connections", crawler.id, "--json").json
    assert shown["attempts"][0]["crawler_job_id"] == order
    missing = run("connections", "none")
    assert (missing.code, missing.err) == (1, "There is no connection none.\n")


def test_the_command_reports_that_no_crawler_is_connected(database: str, run: Run) -> None:
    """An empty list is not an error."""
    output = run("connections")
    assert (output.code, output.out) == (0, "No crawler is connected.\n")
