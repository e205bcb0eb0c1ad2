"""Access tokens that are about to expire: nothing is assigned until they are refreshed."""

from typing import Any

import pytest

from persistence.schema.ids import AccountId
from persistence.settings import settings
from support.worlds.tokens import Tokens
from support.worlds.world import World

EXPIRING = "UPDATE account SET access_token_expires_at = now() + interval '200 seconds' WHERE id = 'acc'"


def test_a_block_for_an_expiring_token_keeps_that_token(
    world: World, tokens: Tokens, without_provider: None
) -> None:
    """A report about the old token does not block an account whose token the web app has replaced without notice."""
    crawler, (order,) = tokens.at_work()
    world.submit(world.order(gitlab_host=tokens.gitlab.url))
    world.rows(EXPIRING)
    world.assign()
    assert tokens.account_queue().held_reason == "token_expiring"
    tokens.authorize()

    crawler.sends("token_refresh_request", order)
    tokens.refresh()

    assert tokens.statuses() == ["queued", "queued"]
    assert (tokens.account_queue().held_at, tokens.needed()) == (None, [])


def test_a_round_does_not_change_the_reason_of_a_blocked_account(
    world: World, tokens: Tokens, without_provider: None
) -> None:
    """An account whose owner was already asked to authorize is not asked again."""
    tokens.die()
    tokens.refresh()
    before = tokens.account_queue()
    world.rows(EXPIRING)

    with world.unit() as uow:
        uow.account_queues.lock([AccountId("acc")])
        assert uow.account_queues.block_expiring([AccountId("acc")], settings().token_margin) == set()
        uow.commit()

    assert tokens.account_queue() == before
    assert before.held_reason == "authorization_needed"


def test_a_token_renewed_before_the_round_could_block_it_is_used(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round checks the token again under the lock, so it does not block the account for the new token."""
    world.submit(world.order(gitlab_host=tokens.gitlab.url))
    world.rows(EXPIRING)
    from persistence.jobs.account_queues import AccountQueues  # noqa: PLC0415 - after the environment is set

    lock = AccountQueues.lock_skipping

    def renew_then_lock(account_queues: AccountQueues, ids: Any) -> Any:
        tokens.authorize()
        return lock(account_queues, ids)

    monkeypatch.setattr(AccountQueues, "lock_skipping", renew_then_lock)
    world.assign()

    assert tokens.account_queue().held_at is None
    assert world.published.of("credentials.refresh") == []


def test_an_expiring_token_is_not_reported_as_revoked(
    world: World, tokens: Tokens, without_provider: None
) -> None:
    """The web app is warned before the token expires."""
    world.submit(world.order(gitlab_host=tokens.gitlab.url))
    world.rows(EXPIRING)

    world.assign()
    tokens.refresh()

    assert tokens.needed() == [("OAUTH2_EXPIRED", "warning")]
    assert tokens.statuses() == ["queued"]


def test_nothing_is_assigned_for_an_expiring_token(world: World, tokens: Tokens) -> None:
    """The token is refreshed first, while jobs of other accounts are assigned."""
    tokens.die()
    tokens.refresh()
    tokens.gitlab.calls = 0
    world.rows(EXPIRING)
    world.rows("UPDATE account_lane SET renewed_at = now() - interval '1 hour'")
    world.account("other")
    (other,) = world.submit(world.order(account_id="other"))
    world.crawler()
    world.published.messages.clear()

    world.assign()

    assert world.rows("SELECT web_app_job_id FROM job_queue WHERE status = 'processing'") == [(other,)]
    assert tokens.account_queue().held_reason == "token_expiring"
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]
    tokens.refresh()
    world.assign()
    assert tokens.gitlab.calls == 1
    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'processing'") == 2


def test_a_short_lived_token_is_used(world: World, tokens: Tokens) -> None:
    """A token that was just renewed is not renewed again for its short lifetime."""
    tokens.die()
    tokens.refresh()
    world.rows("UPDATE account SET access_token_expires_at = now() + interval '60 seconds' WHERE id = 'acc'")

    world.assign()

    assert world.scalar("SELECT count(*) FROM job_queue WHERE status = 'processing'") == 1
