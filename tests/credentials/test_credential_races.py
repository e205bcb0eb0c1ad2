"""Tokens when reports, renewals and refreshes overlap, or concern very many jobs."""

from functools import partial

import pytest

from console.simulator.gitlab import GitLab, Reply
from persistence.exceptions import Contended
from persistence.schema.ids import AccountId
from persistence.unit_of_work import UnitOfWork
from support.worlds.tokens import Tokens
from support.worlds.world import World
from tasks.credentials.refresh import reserve_refresh

# Reports about an older token


def test_a_token_replaced_without_notice_is_not_mistaken_for_the_new_one(
    world: World, tokens: Tokens, without_provider: None
) -> None:
    """The account stays blocked for the old token despite a late report, and reconcile unblocks it."""
    crawler, (one, two) = tokens.at_work(2)
    tokens.outlive()
    crawler.sends("token_refresh_request", one)
    tokens.refresh()
    token_hash = tokens.account_queue().held_token
    tokens.authorize()

    crawler.sends("token_refresh_request", two)

    assert sorted(tokens.statuses()) == ["queued", "waiting_credential_renewal"]
    assert tokens.account_queue().held_token == token_hash
    world.deliver("upkeep.reconcile")
    tokens.refresh()
    assert tokens.statuses() == ["queued", "queued"]
    assert (tokens.account_queue().held_at, len(tokens.needed())) == (None, 1)


def test_a_finished_reservation_is_not_reusable(world: World, tokens: Tokens) -> None:
    """Once a reservation has an outcome, not even its own run may send the token."""
    tokens.die()
    with world.unit() as uow:
        claim = reserve_refresh(uow, AccountId("acc"), "this run")
        assert claim is not None
        uow.commit()
    world.rows("UPDATE credential_refresh SET ended_at = now(), outcome = 'NETWORK_ERROR'")

    with world.unit() as uow:
        assert reserve_refresh(uow, AccountId("acc"), "this run") is None


# Which GitLab is meant


def test_a_refresh_token_is_sent_to_the_gitlab_of_its_account_alone(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If both GitLabs are configured and jobs name both, the account's own one is called."""
    with GitLab() as other:
        both = tokens.gitlab.providers()[:-1] + ", " + other.providers()[1:]
        monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS", both)
        world.reload_settings()
        tokens.die()
        world.submit(world.order(gitlab_host=other.url))

        tokens.refresh()

        assert (tokens.gitlab.calls, other.calls) == (1, 0)
    assert tokens.works()


# Concurrent changes


def test_a_refusal_for_replaced_tokens_adds_no_event(world: World, tokens: Tokens) -> None:
    """If the owner authorizes during the call, the refused token no longer matters."""
    tokens.die()

    def meanwhile(_: Reply) -> Reply:
        tokens.authorize()
        return 400, b'{"error": "invalid_grant"}'

    tokens.gitlab.answer = meanwhile
    tokens.refresh()

    assert tokens.needed() == []
    assert tokens.statuses() == ["waiting_credential_renewal"]
    assert world.published.of("credentials.refresh")[-1:] == [{"account_id": "acc"}]
    tokens.refresh()
    assert tokens.statuses() == ["queued"]
    assert (tokens.gitlab.calls, tokens.account_queue().held_at) == (1, None)


def test_a_write_with_a_doubtful_commit_adds_one_event(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the commit succeeded but raised an error, the retried write finds nothing left to do."""
    tokens.die()
    commit, doubtful = UnitOfWork.commit, iter([False, True])

    def commit_in_doubt(uow: UnitOfWork) -> None:
        commit(uow)
        if next(doubtful, False):
            raise Contended("the connection was reset")

    monkeypatch.setattr(UnitOfWork, "commit", commit_in_doubt)
    tokens.refresh()

    assert tokens.works()
    assert len(world.events("credential_renewed")) == 1


def test_a_call_that_may_still_be_running_is_not_given_up(world: World, tokens: Tokens) -> None:
    """A run may need the timeout for connecting, sending and reading each, and then wait for the database."""
    tokens.die()

    def meanwhile(reply: Reply) -> Reply:
        world.rows("UPDATE credential_refresh SET started_at = started_at - interval '15 seconds'")
        tokens.refresh()
        return reply

    tokens.gitlab.answer = meanwhile
    tokens.refresh()

    assert (tokens.gitlab.calls, tokens.needed()) == (1, [])
    assert tokens.statuses() == ["queued"]


@pytest.mark.parametrize(
    ("details", "expected"),
    [({"status": 401}, '{"status": 401}'), (None, "the account's access token is not accepted any more")],
)
def test_error_details_may_be_an_object_or_missing(
    world: World, tokens: Tokens, details: object, expected: str
) -> None:
    """Such a report is not rejected, so the job frees its slot at once."""
    crawler, (order,) = tokens.at_work()

    crawler.sends(
        "token_refresh_request",
        order,
        currentTokenExpired=True,
        lastSuccessfulRequest=17,
        errorDetails=details,
    )

    assert world.scalar("SELECT error_message FROM job_error_log") == expected
    assert world.rejections() == []


# Chunks, and unusual input


def test_very_many_jobs_expire_in_chunks(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refresh is published again for the rest, and the web app is asked once."""
    monkeypatch.setattr("tasks.credentials.refresh.CHUNK_JOBS", 2)
    tokens.die(3)
    tokens.gitlab.revoke()
    world.published.messages.clear()

    tokens.refresh()
    assert sorted(tokens.statuses()) == ["credential_expired"] * 2 + ["waiting_credential_renewal"]
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]
    tokens.refresh()

    assert tokens.statuses() == ["credential_expired"] * 3
    assert tokens.needed() == [("OAUTH2_REVOKED", "error")]


def test_jobs_unblocked_in_chunks_are_announced_once_although_a_publish_failed(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconcile publishes the refresh for the rest, which does not announce the new token again."""
    monkeypatch.setattr("tasks.credentials.renewed.CHUNK_JOBS", 2)
    tokens.die(3)
    tokens.authorize()
    world.deliver("credentials.renewed", account_id="acc")
    world.published.messages.clear()
    assert sorted(tokens.statuses()) == ["queued"] * 2 + ["waiting_credential_renewal"]

    world.deliver("upkeep.reconcile")
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]
    tokens.refresh()

    assert tokens.statuses() == ["queued"] * 3
    assert tokens.account_queue().held_at is None
    assert len(world.events("credential_renewed")) == 1


def test_a_job_that_fails_after_the_refusal_is_expired_like_the_others(world: World, tokens: Tokens) -> None:
    """It needs the same authorization, so neither GitLab nor the web app is asked again."""
    crawler, (one, two) = tokens.at_work(2)
    tokens.gitlab.revoke()
    crawler.sends("token_refresh_request", one)
    tokens.refresh()

    crawler.sends("token_refresh_request", two)
    tokens.refresh()

    assert tokens.statuses() == ["credential_expired"] * 2
    assert (tokens.gitlab.calls, len(tokens.needed())) == (1, 1)


@pytest.mark.parametrize("reply", [(200, b"{" * 2**20), (200, b"[" * 50_000)], ids=["endless", "deep"])
def test_an_unusable_answer_counts_as_unclear(tokens: Tokens, reply: Reply) -> None:
    """An endless or deeply nested answer is reported as unusable."""
    tokens.die()
    tokens.gitlab.answer = lambda _: reply

    tokens.refresh()

    assert tokens.needed() == [("PROVIDER_ERROR", "error")]


def test_a_renewal_of_an_unknown_account_is_rejected(world: World, tokens: Tokens) -> None:
    """It creates no account queue and no event."""
    world.deliver("credentials.renewed", account_id="nobody")

    assert world.rejections() == [("credentials.renewed", "unknown_account")]
    assert world.scalar("SELECT count(*) FROM account_lane WHERE account_id = 'nobody'") == 0
    assert world.events("credential_renewed") == []


# Everything at once


def test_no_interleaving_leaves_jobs_waiting_for_an_unblocked_account(world: World, tokens: Tokens) -> None:
    """Many repetitions with real commits of reports, renewals, refreshes, rounds and cancellations."""
    crawler = world.crawler(capacity=4)
    for _ in range(15):
        jobs = world.submit(*(world.order(gitlab_host=tokens.gitlab.url) for _ in range(4)))
        world.assign()
        frames = [crawler.frame("token_refresh_request", order) for order in crawler.orders()]
        assert len(frames) == 4
        actions = [
            partial(world.sends, *frames[:2]),
            partial(world.sends, *frames[2:]),
            partial(world.deliver, "credentials.renewed", account_id="acc"),
            partial(world.deliver, "jobs.cancel", job_ids=jobs[:1]),
            tokens.refresh,
            world.assign,
        ]
        for thread in [world.in_thread(action) for action in actions]:
            thread.join()

        if tokens.account_queue().held_at is None:
            assert "waiting_credential_renewal" not in tokens.statuses()
        tokens.refresh()
        assert tokens.account_queue().held_at is None
        assert set(tokens.statuses()) <= {"queued", "cancelled"}
        assert world.scalar("SELECT count(*) FROM job_queue WHERE held") == 0
        assert tokens.works()
        world.deliver("jobs.cancel", account_id="acc")
        assert (crawler.row().active_jobs, crawler.row().reported) == ([], 0)
    assert (tokens.needed(), world.rejections()) == ([], [])
