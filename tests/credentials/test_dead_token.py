"""Attempts whose token died: the job waits for a new token without a slot, and the account is blocked."""

from collections.abc import Iterator

import pytest

from console.simulator.gitlab import GitLab
from support.worlds.tokens import Tokens
from support.worlds.world import World


@pytest.fixture
def tokens(world: World) -> Iterator[Tokens]:
    """An account with tokens of a GitLab where they cannot be refreshed."""
    with GitLab() as gitlab:
        tokens = Tokens(world, gitlab)
        tokens.authorize()
        yield tokens


def test_the_job_waits_and_its_slot_is_freed(world: World, tokens: Tokens) -> None:
    """No try is counted, the error is recorded, and the job keeps its resume state."""
    crawler, (order,) = tokens.at_work()
    crawler.sends(
        "job_progress",
        order,
        stage="fetching",
        entityType="issue",
        processed=1,
        resumeState={"currentPage": 4},
    )

    tokens.outlive()
    crawler.sends(
        "token_refresh_request", order, current_token_expired=True, error_details="401 at /api/graphql"
    )

    (attempt,) = world.rows("SELECT * FROM job_assignment_mapping")
    job, entry = world.job(attempt.web_app_job_id), world.entry(attempt.web_app_job_id)
    assert (job.status, job.resume_state) == ("waiting_credential_renewal", {"currentPage": 4})
    assert (entry.status, entry.held, entry.attempts, entry.losses) == ("pending", True, 0, 0)
    assert attempt.status == "cancelled"
    assert (crawler.orders(), crawler.row().active_jobs, crawler.row().reported) == ([], [], 0)
    (error,) = world.errors(job.id)
    assert (error.error_type, error.error_message) == ("CredentialExpired", "401 at /api/graphql")
    assert [e.payload["reason"] for e in world.events("job_revoked")] == ["CredentialExpired"]
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]


def test_the_account_is_blocked_and_others_continue(world: World, tokens: Tokens) -> None:
    """The account's other jobs stay queued, and jobs of other accounts are assigned."""
    crawler, (order,) = tokens.at_work()
    world.account("other")
    waiting = world.submit(world.order())
    others = world.submit(world.order(account_id="other"))

    tokens.outlive()
    crawler.sends("token_refresh_request", order)
    world.crawler()
    world.assign()

    assert tokens.account_queue().held_reason == "token_died"
    assert (world.entry(waiting[0]).status, world.job(waiting[0]).status) == ("pending", "queued")
    assert world.entry(others[0]).status == "processing"


def test_two_dead_token_reports_of_one_account_make_one_block(world: World, tokens: Tokens) -> None:
    """The refresh is published once."""
    crawler, orders = tokens.at_work(2)

    world.sends(*(crawler.frame("token_refresh_request", order) for order in orders))

    assert tokens.statuses() == ["waiting_credential_renewal"] * 2
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]


def test_frames_after_a_dead_token_report_are_stale(world: World, tokens: Tokens) -> None:
    """The report ends the attempt; repeated, it changes nothing."""
    crawler, (order,) = tokens.at_work()
    frame = crawler.frame("token_refresh_request", order)

    world.sends(frame, crawler.frame("job_completed", order))
    before = world.snapshot()["job_queue"]
    world.sends(frame)

    assert tokens.statuses() == ["waiting_credential_renewal"]
    assert world.snapshot()["job_queue"] == before
    assert world.scalar("SELECT stale_words FROM job_assignment_mapping") == 2


def test_a_report_of_another_connection_blocks_no_account(world: World, tokens: Tokens) -> None:
    """The fence rejects it."""
    _, (order,) = tokens.at_work()

    world.crawler().sends("token_refresh_request", order)

    assert tokens.statuses() == ["queued"]
    assert tokens.account_queue().held_at is None


def test_a_report_about_a_replaced_token_blocks_no_account(world: World, tokens: Tokens) -> None:
    """An attempt that was assigned before the renewal had the old token, so its job is queued again."""
    crawler, (order,) = tokens.at_work()
    world.deliver("credentials.renewed", account_id="acc")

    crawler.sends("token_refresh_request", order)

    assert tokens.statuses() == ["queued"]
    assert tokens.account_queue().held_at is None
    world.assign()
    assert len(crawler.orders()) == 1


def test_the_status_of_the_web_app_wins(world: World, tokens: Tokens) -> None:
    """A job that the web app has paused stays paused and parked, and a new token does not queue it."""
    crawler, (order,) = tokens.at_work()
    world.rows("UPDATE job SET status = 'paused'")

    crawler.sends("token_refresh_request", order)
    world.deliver("credentials.renewed", account_id="acc")

    assert tokens.statuses() == ["paused"]
    assert world.scalar("SELECT held FROM job_queue")


def test_no_token_is_stored_in_the_error_log(world: World, tokens: Tokens) -> None:
    """No table contains the token, even if the crawler sends it in its error details."""
    crawler, (order,) = tokens.at_work()
    token = world.scalar("SELECT access_token FROM account")

    crawler.sends("token_refresh_request", order, error_details=f"GET /api?access_token={token} answered 401")

    for table in ("job_error_log", "dispatch_event", "rejected_message", "account_lane", "job", "job_queue"):
        assert (
            world.scalar(f"SELECT count(*) FROM {table} t WHERE strpos(t::text, :token) > 0", token=token)
            == 0
        )


@pytest.mark.parametrize(
    ("tokens_of_account", "error"),
    [
        ("refresh_token = NULL, access_token_expires_at = NULL", "PAT_REVOKED"),
        ("refresh_token = NULL, access_token_expires_at = now() - interval '1 day'", "PAT_EXPIRED"),
        ("access_token_expires_at = now() - interval '1 day'", "OAUTH2_EXPIRED"),
        ("access_token_expires_at = NULL", "OAUTH2_REVOKED"),
    ],
)
def test_without_a_provider_new_tokens_are_requested_once(
    world: World, tokens: Tokens, tokens_of_account: str, error: str
) -> None:
    """The jobs keep waiting, and no GitLab is called."""
    crawler, (order,) = tokens.at_work()
    tokens.outlive()
    crawler.sends("token_refresh_request", order)
    world.rows(f"UPDATE account SET {tokens_of_account} WHERE id = 'acc'")

    tokens.refresh()
    tokens.refresh()

    assert tokens.needed() == [(error, "error")]
    assert "credentials.renewed" in world.events("credential_needed")[0].payload["action"]
    assert tokens.statuses() == ["waiting_credential_renewal"]
    assert tokens.account_queue().held_reason == "authorization_needed"
    assert tokens.gitlab.calls == 0


def test_renewed_tokens_unblock_the_account(world: World, tokens: Tokens) -> None:
    """The web app's message unblocks the account and queues its jobs; delivered again, it changes nothing."""
    crawler, (order,) = tokens.at_work()
    tokens.outlive()
    crawler.sends("token_refresh_request", order)
    tokens.refresh()
    tokens.authorize()

    world.deliver("credentials.renewed", "the message", account_id="acc")
    world.deliver("credentials.renewed", "the message", account_id="acc")

    assert tokens.statuses() == ["queued"]
    assert tokens.account_queue().held_at is None
    assert [e.account_id for e in world.events("credential_renewed")] == ["acc"]
    world.assign()
    assert len(crawler.orders()) == 1


def test_reconcile_recovers_a_failed_publish(world: World, tokens: Tokens) -> None:
    """It finds the account because it no longer has the token that it was blocked for."""
    crawler, (order,) = tokens.at_work()
    tokens.outlive()
    crawler.sends("token_refresh_request", order)
    tokens.refresh()
    world.published.messages.clear()
    world.deliver("upkeep.reconcile")
    assert world.published.of("credentials.refresh") == []
    tokens.authorize()
    world.rows("DELETE FROM periodic_ring")

    world.deliver("upkeep.reconcile")
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]
    tokens.refresh()

    assert tokens.statuses() == ["queued"]
    assert tokens.gitlab.calls == 0


def test_the_web_app_may_renew_a_single_job(world: World, tokens: Tokens) -> None:
    """A job with the status credential_renewed is queued again."""
    crawler, (order,) = tokens.at_work()
    crawler.sends("token_refresh_request", order)
    world.rows("UPDATE job SET status = 'credential_renewed'")

    world.deliver("upkeep.reconcile")

    assert tokens.statuses() == ["queued"]
    assert world.scalar("SELECT held FROM job_queue") is False


def test_very_many_jobs_are_unblocked_in_chunks(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account stays blocked until the last job is queued; reconcile repairs a failed publish of the rest."""
    monkeypatch.setattr("tasks.credentials.renewed.CHUNK_JOBS", 2)
    crawler, orders = tokens.at_work(3)
    world.sends(*(crawler.frame("token_refresh_request", order) for order in orders))
    world.published.messages.clear()

    world.deliver("credentials.renewed", account_id="acc")
    assert sorted(tokens.statuses()) == ["queued", "queued", "waiting_credential_renewal"]
    assert tokens.account_queue().held_at is not None
    assert world.published.of("credentials.renewed") == [{"account_id": "acc", "more": True}]

    world.deliver("upkeep.reconcile")
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]
    tokens.refresh()
    assert tokens.statuses() == ["queued"] * 3
    assert tokens.account_queue().held_at is None


def test_a_continuation_of_reconcile_publishes_no_refresh(world: World, tokens: Tokens) -> None:
    """A thousand continuations would make a thousand calls to an unavailable GitLab."""
    crawler, (order,) = tokens.at_work()
    tokens.outlive()
    crawler.sends("token_refresh_request", order)
    world.deliver("upkeep.reconcile")
    world.published.messages.clear()

    world.deliver("upkeep.reconcile", more=True)

    assert world.published.of("credentials.refresh") == []


def test_a_new_token_that_dies_at_once_is_refreshed_by_reconcile(world: World, tokens: Tokens) -> None:
    """A crawler that rejects every token must not cause renewals without a pause."""
    world.deliver("credentials.renewed", account_id="acc")
    crawler, (order,) = tokens.at_work()

    crawler.sends("token_refresh_request", order)

    assert tokens.statuses() == ["waiting_credential_renewal"]
    assert world.published.of("credentials.refresh") == []
    world.deliver("upkeep.reconcile")
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]


def test_a_token_that_dies_later_is_refreshed_at_once(world: World, tokens: Tokens) -> None:
    """An account whose last renewal is older than the margin does not wait for reconcile."""
    crawler, (order,) = tokens.at_work()
    world.rows("UPDATE account_lane SET renewed_at = now() - interval '301 seconds'")

    crawler.sends("token_refresh_request", order)

    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]


@pytest.mark.parametrize("status", ["waiting_credential_renewal", "credential_expired"])
def test_jobs_moved_to_another_account_leave_a_blocked_account(
    world: World, tokens: Tokens, status: str
) -> None:
    """A job whose owner signed in with another account is queued there, even if the former stays blocked."""
    crawler, (order,) = tokens.at_work()
    world.submit(world.order(gitlab_host=tokens.gitlab.url))
    tokens.outlive()
    crawler.sends("token_refresh_request", order)
    tokens.refresh()
    world.rows("UPDATE job SET status = :status WHERE status <> 'queued'", status=status)
    world.account("other")
    world.rows("""UPDATE job SET "accountId" = 'other'""")
    world.rows("DELETE FROM account WHERE id = 'acc'")
    world.crawler()

    world.deliver("upkeep.reconcile")
    world.assign()

    assert tokens.statuses() == ["queued"] * 2
    assert world.rows("SELECT account_id, status FROM job_queue") == [("other", "processing")] * 2
    world.rows("DELETE FROM periodic_ring")
    world.published.messages.clear()
    world.deliver("upkeep.reconcile")
    assert world.published.of("jobs.assign") == []
