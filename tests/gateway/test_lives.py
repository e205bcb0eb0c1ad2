"""Whole lives of crawlers, over real sockets, with a real gateway, worker and database."""

import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from persistence.sanitize.crawler_secret import new_secret
from support.command import Run
from support.gateway.crawlers import crawling
from support.gateway.systems import TOKEN, GatewaySystem
from support.processes.workers import wait_until

pytestmark = [pytest.mark.programs, pytest.mark.one_world, pytest.mark.database]


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


def test_a_secret_lets_in_until_it_is_revoked(system: GatewaySystem) -> None:
    """A wrong one is told as much as none; what is revoked is let go of within seconds, and not let in again."""
    crawler = system.stranger(secret=system.enroll(capacity=2), capacity=50)
    wrong, none = system.stranger(secret=new_secret()), system.stranger()
    with crawling(crawler, wrong, none):
        crawler.connect()
        wrong.say_hello()
        none.say_hello()
        refusals = [refused.wire.next("error")["data"] for refused in (wrong, none)]
        capacity = system.connection(crawler.connection_id)["capacity"]
        credential = system.connection(crawler.connection_id)["crawler_credential"]
        system.system.rows("UPDATE crawler_credential SET revoked_at = now() WHERE id = %s", credential)
        begun = time.monotonic()
        revoked = crawler.wire.next("error")["data"]
        closed = crawler.wire.is_closed()
        took = time.monotonic() - begun
        crawler.say_hello()

        assert capacity == 2
        assert [refusal["code"] for refusal in refusals] == ["unauthenticated", "unauthenticated"]
        assert refusals[0] == refusals[1]
        assert (revoked["code"], closed) == ("unauthenticated", True)
        assert took < 5
        assert crawler.wire.next("error")["data"] == refusals[0]
        assert crawler.wire.is_closed()


def test_two_processes_with_one_session_do_not_share_it(system: GatewaySystem) -> None:
    """The newer link has it; the other is told."""
    crawler, twin = system.crawler("twins"), system.crawler("twins")
    with crawling(crawler, twin):
        crawler.connect()
        twin.session, twin.n = crawler.session, crawler.n
        twin.connect()
        superseded = crawler.wire.next("error")["data"]
        job = system.submit()
        order = twin.order()
        done = twin.report("job_completed", order["id"])

        assert twin.connection_id == crawler.connection_id
        assert (superseded["code"], superseded["closes"]) == ("superseded", True)
        assert twin.acknowledged(done)
        assert crawler.wire.is_closed()
        assert "job_response" not in [frame["type"] for frame in crawler.wire.frames]
        assert system.becomes(job, "finished")
        assert twin.leave()


def test_a_session_that_said_goodbye_is_over(system: GatewaySystem) -> None:
    """Who comes back with it gets a new connection, with another session."""
    crawler = system.crawler()
    with crawling(crawler):
        crawler.connect()
        before = crawler.session, crawler.connection_id
        crawler.leave()
        system.ends_cleanly(crawler)
        crawler.connect()

        assert crawler.session != before[0]
        assert crawler.connection_id != before[1]
        assert crawler.leave()


def test_a_session_without_its_secret_is_worth_nothing(system: GatewaySystem) -> None:
    """It is no proof: with another credential it opens a new connection, and the first one loses nothing."""
    crawler = system.stranger(secret=system.enroll())
    thief = system.stranger(secret=system.enroll())
    with crawling(crawler, thief):
        crawler.connect()
        job = system.submit()
        order = crawler.order()
        thief.session, thief.n = crawler.session, 100
        stolen = thief.connect()
        theft = thief.report("job_completed", order["id"])
        refused = thief.wire.next("error")["data"]
        done = crawler.report("job_completed", order["id"])

        assert thief.connection_id != crawler.connection_id
        assert stolen["jobs"] == []
        assert (refused["code"], refused["id"]) == ("unknown_job", theft)
        assert crawler.acknowledged(done)
        assert system.becomes(job, "finished")
        assert crawler.leave()
        assert thief.leave()


def test_a_crawler_goes_to_another_gateway(system: GatewaySystem) -> None:
    """Its old link is still open, as after a network that fell silent: orders come over the new one alone."""
    crawler = system.crawler()
    with crawling(crawler), tempfile.TemporaryDirectory(prefix="gw") as folder:
        crawler.connect()
        job = system.submit()
        order = crawler.order()
        old = crawler.wire
        crawler.move(system.second_gateway(Path(folder)))
        welcome = crawler.connect()
        superseded = old.next("error")["data"]["code"]
        done = crawler.report("job_completed", order["id"])
        other_job = system.submit()
        other = crawler.report("job_completed", crawler.order()["id"])

        assert welcome["jobs"] == [order]
        assert superseded == "superseded"
        assert crawler.acknowledged(done)
        assert crawler.acknowledged(other)
        assert system.becomes(job, "finished")
        assert system.becomes(other_job, "finished")
        assert system.losses(job, other_job) == 0
        assert crawler.leave()
        system.stop_second_gateway()


def test_a_gateway_that_is_frozen_costs_nothing(system: GatewaySystem) -> None:
    """Longer than a resume window: its links are open, and nobody is blamed."""
    crawler = system.crawler()
    with crawling(crawler):
        crawler.connect()
        job = system.submit()
        order = crawler.order()
        system.gateway.send(signal.SIGSTOP)
        done = crawler.report("job_completed", order["id"])
        system.system.has_gone_on(3)
        system.gateway.send(signal.SIGCONT)

        assert crawler.acknowledged(done)
        assert system.becomes(job, "finished")
        assert system.losses(job) == 0
        assert crawler.leave()


def test_hello_waits_while_the_database_is_away(system: GatewaySystem) -> None:
    """Nobody is welcomed without orders; as soon as it is back, the crawler is."""
    crawler, late = system.crawler(), system.crawler()
    with crawling(crawler, late):
        crawler.connect()
        job = system.submit()
        order = crawler.order()
        with system.database_away():
            late.say_hello()
            done = crawler.report("job_completed", order["id"])
            quiet = late.wire.has_nothing_for(1)
        welcome = late.wire.next("welcome")

        assert quiet
        assert welcome["data"]["jobs"] == []
        assert crawler.acknowledged(done)
        assert system.becomes(job, "finished")
        assert system.losses(job) == 0
        assert crawler.leave()


def test_a_broker_that_drops_its_clients_costs_nothing(system: GatewaySystem) -> None:
    """And then does not answer for a while: what is reported meanwhile is said once it does."""
    crawler = system.crawler()
    with crawling(crawler):
        crawler.connect()
        job = system.submit()
        order = crawler.order()
        system.drop_clients_of_broker(pause_ms=700)
        done = crawler.report("job_completed", order["id"])
        crawler.wire.send("heartbeat", activeJobs=[])

        assert crawler.acknowledged(done)
        assert system.becomes(job, "finished")
        assert system.losses(job) == 0
        assert crawler.leave()


def test_a_goodbye_gives_the_jobs_back_at_once(system: GatewaySystem) -> None:
    """They are another crawler's, and nothing is counted."""
    leaving, other = system.crawler(), system.crawler(capacity=0)
    with crawling(leaving, other):
        leaving.connect()
        other.connect()
        job = system.submit()
        first = leaving.order()
        other.wire.send("job_request", capacity=1)
        leaving.leave()
        second = other.order()
        done = other.report("job_completed", second["id"])

        assert second["id"] != first["id"]
        assert other.acknowledged(done)
        assert system.becomes(job, "finished")
        assert system.losses(job) == 0
        assert other.leave()


def test_sighup_reads_credentials_anew_and_ends_nothing(system: GatewaySystem) -> None:
    """A link that is open stays so."""
    crawler = system.crawler()
    with crawling(crawler):
        crawler.connect()
        system.gateway.send(signal.SIGHUP)
        job = system.submit()
        done = crawler.report("job_completed", crawler.order()["id"])

        assert crawler.acknowledged(done)
        assert system.becomes(job, "finished")
        assert crawler.leave()


def test_a_gateway_that_is_stopped_lets_its_crawlers_go(system: GatewaySystem) -> None:
    """They are told to come back, what they reported is handled, and none of them counts as lost."""
    crawler = system.crawler()
    with crawling(crawler):
        crawler.connect()
        jobs = [system.submit(), system.submit()]
        orders = [crawler.order(), crawler.order()]
        crawler.wire.send("job_completed", orders[0]["id"])
        begun = time.monotonic()
        system.gateway.send(signal.SIGTERM)
        shutdown = crawler.wire.next("shutdown")["data"]
        closed = crawler.wire.is_closed()
        code = system.gateway.wait(30)
        took = time.monotonic() - begun
        lost = system.connection(crawler.connection_id)["lost_at"]
        system.restart_gateway()
        welcome = crawler.connect()
        done = crawler.report("job_completed", orders[1]["id"])

        assert shutdown["graceful"]
        assert shutdown["reconnectAfterSeconds"] >= 0
        assert (closed, code, lost) == (True, 0, None)
        assert took < 25
        assert system.becomes(jobs[0], "finished")
        assert welcome["jobs"] == [orders[1]]
        assert crawler.acknowledged(done)
        assert system.losses(*jobs) == 0
        assert crawler.leave()


def test_no_secret_is_left_anywhere(system: GatewaySystem) -> None:
    """Not in a log, on the broker, or in a table but those where it belongs."""
    secret = system.enroll()
    crawler = system.stranger(secret=secret)
    with crawling(crawler):
        crawler.connect()
        session = str(crawler.session)
        job = system.submit()
        order = crawler.order()
        crawler.wire.send_raw(b'{"type": "job_failed", "id": "' + secret.encode() + b'", "data": 5}\n')
        crawler.wire.next("error")
        failed = crawler.report(
            "job_failed",
            order["id"],
            error=f"401 for {order['accessToken']} of {secret}",
            isRecoverable=False,
        )

        assert crawler.acknowledged(failed)
        assert system.becomes(job, "failed")
        assert crawler.leave()
        assert system.places_of(TOKEN, but="account") == []
        assert system.places_of(secret) == []
        assert system.places_of(session) == []


def test_operators_see_gateways_and_links(
    system: GatewaySystem, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway by its sign of life, a connection with the number of its link."""
    monkeypatch.setenv("DATABASE_URL", system.system.database_url)
    monkeypatch.setenv("BROKER_URL", system.system.broker_url)
    crawler = system.crawler()
    with crawling(crawler):
        crawler.connect()

        def gateway() -> Any:
            (found,) = run("connections", "--gateways", "--json").json
            return found

        wait_until(lambda: gateway()["state"] == "serving", "the gateway says that it has read the orders")
        over_it = {found["id"]: found for found in run("connections", "--gateway", "east", "--json").json}
        connection = over_it[crawler.connection_id]

        assert (gateway()["name"], gateway()["pid"]) == ("east", system.gateway.pid)
        assert gateway()["connections"]["links"] >= 1
        assert len(gateway()["listeners"]) == 2
        assert (connection["lost_at"], connection["incarnation"]) == (None, 1)
        assert crawler.leave()
