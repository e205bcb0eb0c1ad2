"""The original crawler at a real gateway: it discovers, its token dies, its link is cut, its gateway is killed."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ulid import ULID

from support.gateway.systems import ORIGIN, GatewaySystem
from support.processes.workers import wait_until
from support.wire.original import GitLab, Listing, OriginalCrawler
from support.wire.translated import area

pytestmark = [pytest.mark.programs, pytest.mark.database, pytest.mark.one_world]

SETTINGS = {"CRAWLYARD_PENDING_CAP": "1"}
"""What is discovered waits outside of the queue: this crawler fails all but discoveries."""

PACE = 25.0


@pytest.fixture
def west(system: GatewaySystem) -> Iterator["Original"]:
    """A gateway with a listener for one original crawler, beside the other gateway; no job is left for it."""
    for table in ("job", "deferred_job"):
        system.system.rows(f"DELETE FROM {table}")
    original = Original(system)
    try:
        yield original
    finally:
        system.system.stop(original.gateway)


class Original:
    """The gateway, and the crawler."""

    def __init__(self, system: GatewaySystem) -> None:
        self.system = system
        # Its session is kept beside the socket, and would bring back the connection of another test.
        self.path = system.socket.with_name(f"{str(ULID())[-8:]}.sock")
        self.account, self.token = self.new_account()
        self.gateway = self._start()

    def new_account(self) -> tuple[str, str]:
        """Add an account; returns its id and its token."""
        id_, token = str(ULID()), f"glpat-{ULID()}"
        self.system.system.rows("INSERT INTO account (id, access_token) VALUES (%s, %s)", id_, token)
        self.system.system.rows(
            "INSERT INTO account_origin (account_id, origin, bound_by) VALUES (%s, %s, 'operator')",
            id_,
            ORIGIN,
        )
        return id_, token

    def renew(self) -> str:
        """Give the account another token, and return it."""
        token = f"glpat-{ULID()}"
        self.system.system.rows("UPDATE account SET access_token = %s WHERE id = %s", token, self.account)
        return token

    def _start(self) -> Any:
        return self.system.start_gateway(f"unix:{self.path}?trust=peer&dialect=original", name="west")

    def kill(self) -> None:
        """Kill the gateway, and start it again."""
        self.gateway.send(signal.SIGKILL)
        self.gateway.wait()
        self.system.system.processes.remove(self.gateway)
        self.gateway = self._start()

    @contextmanager
    def crawler(self, gitlab: GitLab) -> Iterator[OriginalCrawler]:
        """Run a crawler."""
        crawler = OriginalCrawler(lambda: asyncio.open_unix_connection(str(self.path)), gitlab, PACE)
        loop = asyncio.new_event_loop()
        running = loop.create_task(crawler.run())
        thread = threading.Thread(target=_run, args=(loop, running))
        thread.start()
        try:
            yield crawler
        finally:
            loop.call_soon_threadsafe(running.cancel)
            thread.join()
            loop.close()
            self.system.system.publish("jobs.cancel", account_id=self.account)

    def cut(self, crawler: OriginalCrawler) -> None:
        """Cut the crawler's link."""
        assert crawler.loop
        crawler.loop.call_soon_threadsafe(crawler.cut)

    def discovery(self, path: str | None = None, account: str = "") -> str:
        """Order a discovery."""
        named = {"namespace_path": path, "entity_id": "7"} if path else {"namespace_path": None}
        job = self.system.submit("GROUP_PROJECT_DISCOVERY", account_id=account or self.account, **named)
        there = "SELECT 1 FROM job WHERE id = %s"
        wait_until(lambda: self.system.system.rows(there, job), "the job is there")
        return job

    def found(self, job: str) -> int:
        """How many areas a discovery has found."""
        sums = self.system.system.one("SELECT progress -> 'discovery' FROM job WHERE id = %s", job) or {}
        return int(sums.get("projects", 0) + sums.get("groups", 0))

    def attempts(self, job: str) -> list[str]:
        """How the attempts of a job have ended, in their order."""
        found = "SELECT status FROM job_assignment_mapping WHERE web_app_job_id = %s ORDER BY assigned_at, id"
        return [status for (status,) in self.system.system.rows(found, job)]


def _run(loop: asyncio.AbstractEventLoop, running: "asyncio.Task[int]") -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(running)
    except asyncio.CancelledError:
        loop.run_until_complete(asyncio.sleep(0.05))


@pytest.mark.parametrize("projects", [500, pytest.param(5000, marks=pytest.mark.gate)])
def test_it_discovers_a_large_group(west: Original, projects: int) -> None:
    """All projects in one frame, which is applied before the job ends."""
    path = f"big-{ULID()}".lower()
    found = [area(f"{path}/project-{number}", projects * 10 + number) for number in range(projects)]
    with west.crawler(GitLab(ORIGIN, {west.token: Listing(found, 3, blocks=True)})):
        job = west.discovery(path)
        assert west.system.becomes(job, "finished")
        assert (west.found(job), west.attempts(job)) == (projects, ["completed"])


def test_its_dead_token_is_answered_in_time(west: Original) -> None:
    """The job waits for a new token, the crawler is free, and both go on once there is one."""
    gitlab = GitLab(ORIGIN, {})
    with west.crawler(gitlab) as crawler:
        job = west.discovery()
        assert west.system.becomes(job, "waiting_credential_renewal")
        wait_until(crawler.errors, "the crawler has its answer")
        gitlab.listings[west.renew()] = Listing([])
        west.system.system.publish("credentials.renewed", account_id=west.account)
        assert west.system.becomes(job, "finished")
        assert crawler.errors() == ["token_refresh_response payload was incomplete"]
        assert west.attempts(job) == ["cancelled", "completed"]


def test_a_token_that_was_renewed_meanwhile_lets_its_job_go_on(west: Original) -> None:
    """Under the same attempt."""
    gitlab = GitLab(ORIGIN, {})
    with west.crawler(gitlab) as crawler:
        crawler.before_refresh = lambda: gitlab.listings.update({west.renew(): Listing([])})
        job = west.discovery(f"b-{ULID()}".lower())
        assert west.system.becomes(job, "finished")
        assert (west.attempts(job), crawler.errors()) == (["completed"], [])


@pytest.mark.parametrize("fault", ["the link is cut", "the gateway is killed"])
def test_what_breaks_while_it_works_costs_nothing(west: Original, fault: str) -> None:
    """It comes back to its connection, works on, and its report counts; no attempt is lost."""
    path = f"c-{ULID()}".lower()
    gitlab = GitLab(ORIGIN, {west.token: Listing([area(f"{path}/x", 95)], 40, blocks=True)})
    with west.crawler(gitlab) as crawler:
        job = west.discovery(path)
        wait_until(lambda: [f for f in crawler.sent if f["type"] == "job_started"], "it has started")
        if fault == "the link is cut":
            west.cut(crawler)
        else:
            west.kill()
        wait_until(lambda: west.found(job) == 1, "its discovery is applied")
        # After five seconds of work its first progress throws: it says so, and its job is tried again.
        wait_until(lambda: west.attempts(job)[0] == "failed", "the failure is reported")
        assert (crawler.links, len(gitlab.asked)) == (2, 1)
        assert west.system.losses(job) == 0


def test_no_account_is_asked_with_the_token_of_another(west: Original) -> None:
    """Orders of two accounts, which it would mix up if it had both."""
    other, token = west.new_account()
    mine, theirs = (f"{name}-{ULID()}".lower() for name in ("mine", "theirs"))
    listings = {
        west.token: Listing([area(f"{mine}/x", 71)], 0.5),
        token: Listing([area(f"{theirs}/x", 72)], 0.5),
    }
    with west.crawler(GitLab(ORIGIN, listings)) as crawler:
        jobs = [west.discovery(mine), west.discovery(theirs, other)]
        assert all(west.system.becomes(job, "finished") for job in jobs)
        authorized = 'SELECT area_id FROM area_authorization WHERE "accountId" = %s'
        assert west.system.system.rows(authorized, west.account) == [(f"{mine}/x",)]
        assert west.system.system.rows(authorized, other) == [(f"{theirs}/x",)]
        assert crawler.most_at_once == 1
