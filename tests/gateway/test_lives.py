"""Whole lives of crawlers, over real sockets, with a real gateway, worker and database."""

import signal

import pytest

from support.gateway.crawlers import crawling
from support.gateway.systems import TOKEN, GatewaySystem

pytestmark = [pytest.mark.programs, pytest.mark.database]


def test_a_crawler_lives(system: GatewaySystem) -> None:
    """It is known, gets its order pushed, reports, is answered, and leaves; nothing is left of it."""
    crawler = system.crawler()
    with crawling(crawler):
        welcome = crawler.connect()
        job = system.submit()
        order = crawler.order()
        started = crawler.report("job_started", order["id"])
        done = crawler.report("job_completed", order["id"], finalCounts={"project": 1})

        assert welcome["jobs"] == []
        assert order["accessToken"] == TOKEN
        assert crawler.acknowledged(started)
        assert crawler.acknowledged(done)
        assert system.becomes(job, "finished")
        assert crawler.leave()
        assert system.ends_cleanly(crawler)


def test_a_link_that_is_cut_costs_nothing(system: GatewaySystem) -> None:
    """The crawler comes back with its session: the same connection, the same order, whose end then counts."""
    crawler = system.crawler()
    with crawling(crawler):
        crawler.connect()
        connection_id = crawler.connection_id
        job = system.submit()
        order = crawler.order()
        crawler.wire.close()
        system.loses(crawler)
        welcome = crawler.connect()
        done = crawler.report("job_completed", order["id"])

        assert crawler.connection_id == connection_id
        assert welcome["jobs"] == [order]
        assert crawler.acknowledged(done)
        assert system.becomes(job, "finished")
        assert system.losses(job) == 0
        assert crawler.leave()


def test_a_gateway_that_is_killed_costs_nothing(system: GatewaySystem) -> None:
    """With the next one the crawler has its connection, its order, and the end that it says again is acknowledged."""
    crawler = system.crawler()
    with crawling(crawler):
        crawler.connect()
        connection_id = crawler.connection_id
        jobs = [system.submit(), system.submit()]
        orders = [crawler.order(), crawler.order()]
        done = crawler.report("job_completed", orders[0]["id"])
        assert crawler.acknowledged(done)
        system.gateway.send(signal.SIGKILL)
        system.gateway.wait()
        assert crawler.wire.is_closed()
        system.restart_gateway()
        welcome = crawler.connect()
        repeated = crawler.report("job_completed", orders[0]["id"])
        other = crawler.report("job_completed", orders[1]["id"])

        assert crawler.connection_id == connection_id
        assert welcome["jobs"] == [orders[1]]
        assert crawler.acknowledged(repeated)
        assert crawler.acknowledged(other)
        assert all(system.becomes(job, "finished") for job in jobs)
        assert system.losses(*jobs) == 0
        assert crawler.leave()


def test_a_crawler_that_crashes_is_missed_soon(system: GatewaySystem) -> None:
    """Its link ends without a goodbye: after the resume window its job is another crawler's."""
    crashed, other = system.crawler(), system.crawler(capacity=0)
    with crawling(crashed, other):
        crashed.connect()
        job = system.submit()
        crashed.order()
        crashed.wire.close()
        other.connect()
        other.wire.send("job_request", capacity=1)
        order = other.order()
        done = other.report("job_completed", order["id"])

        assert other.acknowledged(done)
        assert system.becomes(job, "finished")
        assert system.losses(job) == 1
        assert other.leave()
