"""Jobs whose order would send a token to another GitLab than its account's: queued, held, and never assigned."""

import pytest

from persistence.schema.gitlabs import host_of
from support.worlds.world import World

OURS = "https://gitlab.example.org"
OTHER = "https://git.example.net"


def held(world: World) -> list[tuple[str, str]]:
    """The events job_held: job and reason."""
    return [(event.job_id, event.payload["reason"]) for event in world.events("job_held")]


@pytest.fixture
def bound(world: World) -> World:
    """The account is bound to another GitLab than its orders name."""
    world.bind(OTHER)
    return world


def test_an_order_for_another_gitlab_is_held(bound: World) -> None:
    """Its job stays queued; the event says why, and between which GitLabs."""
    (job,) = bound.jobs(1)
    crawler = bound.crawler()

    bound.assign()

    assert crawler.orders() == []
    assert bound.job(job).status == "queued"
    entry = bound.entry(job)
    assert (entry.status, entry.held, entry.hold_reason) == ("pending", True, "origin_mismatch")
    (event,) = bound.events("job_held")
    assert (event.job_id, event.account_id) == (job, "acc")
    assert event.payload == {"reason": "origin_mismatch", "origin": OURS, "bound_to": OTHER}


def test_an_enqueued_job_for_another_gitlab_is_held(bound: World) -> None:
    """The web app wrote its URL; that does not move the token either."""
    job = bound.insert_job()

    bound.deliver("jobs.enqueue", job_ids=[job])

    assert held(bound) == [(job, "origin_mismatch")]
    assert bound.entry(job).held


@pytest.mark.parametrize("url", ["https://@evil.example:notaport", "http://169.254.169.254", "", "://["])
def test_an_enqueued_job_whose_url_is_none_is_held(world: World, url: str) -> None:
    """Its account is bound or not: no such URL is its GitLab."""
    world.jobs(1)
    job = world.insert_job(gitlabGraphQLUrl=url)

    world.deliver("jobs.enqueue", job_ids=[job])

    assert held(world) == [(job, "origin_mismatch")]


def test_a_job_without_a_url_goes_to_the_gitlab_of_its_account(world: World) -> None:
    """The order names the bound GitLab; for an account without one the job is held."""
    stranger = world.insert_job(accountId=world.account("other"), gitlabGraphQLUrl=None)
    world.jobs(1)
    job = world.insert_job(gitlabGraphQLUrl=None)
    world.deliver("jobs.enqueue", job_ids=[job, stranger])
    world.crawler()

    world.assign()

    assert world.rows('SELECT DISTINCT "gitlabUrl" FROM crawler_order') == [(OURS,)]
    assert world.attempts(job)
    assert held(world) == [(stranger, "origin_unbound")]


def test_orders_of_an_account_that_nothing_binds_are_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's list excludes their GitLab. Once it is on the list, reconcile binds the account and queues them."""
    monkeypatch.setenv("CRAWLYARD_ALLOWED_ORIGINS", OTHER)
    world.reload_settings()
    jobs = world.jobs(2)
    assert sorted(held(world)) == sorted((job, "origin_unbound") for job in jobs)

    monkeypatch.setenv("CRAWLYARD_ALLOWED_ORIGINS", f"{OTHER},{OURS}")
    world.reload_settings()
    world.deliver("upkeep.reconcile")
    crawler = world.crawler(capacity=2)
    world.assign()

    assert len(crawler.orders()) == 2
    assert world.scalar("SELECT count(*) FROM job_queue WHERE held OR hold_reason IS NOT NULL") == 0


@pytest.mark.parametrize(
    "change", ["'http://evil.example:8080/api/graphql'", "'https://gitlab.example.org/x/api/graphql'"]
)
def test_a_round_holds_a_job_that_the_web_app_moved_to_another_gitlab(world: World, change: str) -> None:
    """It was at its account's GitLab when it was queued; the host is not compared, the whole origin is."""
    (job,) = world.jobs(1)
    world.rows(f'UPDATE job SET "gitlabGraphQLUrl" = {change}')
    world.rows("UPDATE job_queue SET host = :host", host=host_of(change.strip("'")))
    crawler = world.crawler()

    world.assign()

    assert crawler.orders() == []
    assert held(world) == [(job, "origin_mismatch")]
    assert world.published.of("jobs.enqueue") == []


def test_a_round_holds_only_what_is_elsewhere(world: World) -> None:
    """Jobs of other accounts, and the account's own, are assigned in the same round."""
    mine, stranger = world.jobs(2), world.jobs(1, account_id=world.account("other"))
    world.rows("UPDATE account_origin SET origin = :origin WHERE account_id = 'other'", origin=OTHER)
    crawler = world.crawler()

    world.assign()

    assert len(crawler.orders()) == 2
    assert all(world.attempts(job) for job in mine)
    assert held(world) == [(stranger[0], "origin_mismatch")]


def test_a_round_assigns_nothing_for_an_account_without_a_binding(world: World) -> None:
    """An older worker queued the job: it is held, and enqueued anew, which binds the account."""
    (job,) = world.jobs(1)
    world.rows("DELETE FROM account_origin")
    crawler = world.crawler()

    world.assign()

    assert crawler.orders() == []
    assert world.published.of("jobs.enqueue") == [{"job_ids": [job]}]
    world.deliver("jobs.enqueue", job_ids=[job])
    world.assign()
    assert len(crawler.orders()) == 1


def test_reconcile_leaves_held_jobs_held(bound: World) -> None:
    """They are queued and parked at once, which is no contradiction; no row is written for it, and no event."""
    (job,) = bound.jobs(1)
    version = bound.scalar("SELECT xmin::text FROM job_queue")

    bound.deliver("upkeep.reconcile")
    bound.deliver("upkeep.reconcile", more=True)

    assert held(bound) == [(job, "origin_mismatch")]
    assert bound.entry(job).held
    assert bound.scalar("SELECT xmin::text FROM job_queue") == version


def test_a_job_is_announced_as_held_once_for_each_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is queued, by rounds, reconcile or the web app, until it has been assigned or has ended."""
    monkeypatch.setenv("CRAWLYARD_ALLOWED_ORIGINS", OTHER)
    world.reload_settings()
    (job,) = world.jobs(1)
    world.rows("UPDATE job_queue SET held = false, hold_reason = NULL")  # as a worker of 0.4.1 releases it
    world.crawler()
    for _ in range(3):
        world.assign()
        world.deliver("jobs.enqueue", job_ids=[job])
        world.deliver("upkeep.reconcile", more=True)
    assert held(world) == [(job, "origin_unbound")]
    world.rows("UPDATE job SET status = 'paused'")
    world.deliver("upkeep.reconcile", more=True)
    world.deliver("jobs.resume", job_ids=[job])
    assert held(world) == [(job, "origin_unbound")]

    world.bind(OTHER)
    for path in ("/x", "/y"):
        world.rows('UPDATE job SET "gitlabGraphQLUrl" = :url', url=f"{OURS}{path}/api/graphql")
        world.deliver("upkeep.reconcile", more=True)
    assert held(world) == [(job, "origin_unbound"), (job, "origin_mismatch")]
    assert (world.entry(job).held, world.entry(job).hold_origin) == (True, f"{OURS}/y")

    world.rows("UPDATE job SET status = 'failed'")
    world.deliver("upkeep.reconcile", more=True)
    world.deliver("jobs.retry", job_ids=[job])
    assert held(world) == [(job, "origin_unbound"), (job, "origin_mismatch"), (job, "origin_mismatch")]


def test_an_assigned_job_is_announced_anew_if_it_is_held_later(world: World) -> None:
    """What was announced before its attempt says nothing about now."""
    world.bind(OTHER)
    (job,) = world.jobs(1)
    world.bind(OURS)
    crawler = world.crawler()
    world.deliver("upkeep.reconcile", more=True)
    world.assign()
    world.bind(OTHER)
    crawler.fails(*crawler.orders())
    world.rows("UPDATE job_queue SET ready = true, scheduled_at = now()")

    world.assign()

    assert held(world) == [(job, "origin_mismatch")] * 2


def test_reconcile_releases_what_is_at_the_new_gitlab_of_its_account(bound: World) -> None:
    """The operator's binding is all it needs, even if the command died right after it."""
    (job,) = bound.jobs(1)
    bound.bind(OURS)

    bound.deliver("upkeep.reconcile")

    assert (bound.entry(job).held, bound.entry(job).hold_reason) == (False, None)


def test_a_held_job_is_decided_anew_when_the_web_app_changes_its_url(bound: World) -> None:
    """The job is queued as soon as it names its account's GitLab."""
    (job,) = bound.jobs(1)
    bound.rows('UPDATE job SET "gitlabGraphQLUrl" = :url', url=f"{OTHER}/api/graphql")

    bound.deliver("upkeep.reconcile")

    assert (bound.entry(job).held, bound.entry(job).hold_reason) == (False, None)


@pytest.mark.parametrize("command", ["jobs.retry", "jobs.resume"])
def test_no_command_gets_a_job_past_the_hold(bound: World, command: str) -> None:
    """A job that failed or was paused is queued again, and held again."""
    (job,) = bound.jobs(1)
    bound.rows(
        "UPDATE job SET status = :status", status={"jobs.retry": "failed", "jobs.resume": "paused"}[command]
    )
    crawler = bound.crawler()
    bound.deliver("upkeep.reconcile")

    bound.deliver(command, job_ids=[job])
    bound.assign()

    assert crawler.orders() == []
    assert bound.job(job).status == "queued"
    assert bound.entry(job).hold_reason == "origin_mismatch"


def test_the_order_names_the_url_that_was_approved(world: World) -> None:
    """What the web app writes into the job afterwards does not redirect the token."""
    (job,) = world.jobs(1, gitlab_host="HTTPS://Example.org:443/GitLab/")
    world.crawler()
    world.assign()

    world.rows("""UPDATE job SET "gitlabGraphQLUrl" = 'http://evil.example/api/graphql'""")

    assert world.scalar('SELECT "gitlabUrl" FROM crawler_order') == "https://example.org/GitLab"
    assert world.attempts(job)[0].gitlab_url == "https://example.org/GitLab"


def test_a_jira_order_does_not_move_the_token_of_a_gitlab(world: World) -> None:
    """The order's provider is the sender's word; the account's own says what it is."""
    world.rows("UPDATE account SET provider_id = 'gitlab-cloud'")

    (job,) = world.jobs(1, provider="jiracloud", gitlab_host="https://x.atlassian.net")

    assert held(world) == [(job, "origin_mismatch")]
    assert world.scalar("SELECT origin FROM account_origin") == "https://gitlab.com"
