"""What the answer of a GitLab to a refresh, or a missing answer, does to accounts and jobs."""

import json
from collections.abc import Callable
from threading import Event

import pytest

from console.simulator.gitlab import Reply
from persistence.schema.reasons import CredentialError
from persistence.settings import settings
from support.worlds.tokens import Tokens
from support.worlds.world import Crawler, World
from tasks.credentials.oauth import NotProcessed, refresh


@pytest.fixture
def tokens(tokens: Tokens) -> Tokens:
    """The account's token has died, and one job waits for a new one."""
    tokens.die()
    return tokens


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: (500, b"oops"), "PROVIDER_ERROR"),
        (lambda _: (200, b"no JSON"), "PROVIDER_ERROR"),
        (lambda _: (200, b'{"access_token": 7}'), "PROVIDER_ERROR"),
        (lambda _: (200, b'{"access_token": "a\\u0000b"}'), "PROVIDER_ERROR"),
        (lambda _: (200, b'{"access_token": "a\\ud800b"}'), "PROVIDER_ERROR"),
        (lambda _: (200, b"[]"), "PROVIDER_ERROR"),
        (lambda _: (302, b""), "PROVIDER_ERROR"),
        (lambda _: (400, b'{"error": "invalid_grant"}'), "OAUTH2_REVOKED"),
    ],
    ids=["500", "garbage", "no token", "NUL", "surrogate", "no object", "redirect", "invalid_grant"],
)
def test_a_token_that_may_be_used_up_is_never_sent_again(
    world: World, tokens: Tokens, answer: Callable[[Reply], Reply], error: str
) -> None:
    """The jobs expire, the account stays blocked, and the web app is asked once."""
    tokens.gitlab.answer = answer

    tokens.refresh()
    tokens.gitlab.answer = lambda reply: reply
    tokens.refresh()
    world.deliver("upkeep.reconcile")

    assert tokens.gitlab.calls == 1
    assert tokens.needed() == [(error, "error")]
    assert tokens.statuses() == ["credential_expired"]
    assert (tokens.account_queue().held_reason, tokens.account_queue().held_at is None) == (
        "authorization_needed",
        False,
    )


def test_an_answer_that_does_not_come_is_lost(world: World, tokens: Tokens) -> None:
    """The token may have been used, so it is not sent again."""
    served = Event()

    def wait(reply: Reply) -> Reply:
        served.wait(10)
        return reply

    tokens.gitlab.answer = wait
    tokens.refresh()
    served.set()
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.needed() == [("NETWORK_ERROR", "error")]
    assert tokens.statuses() == ["credential_expired"]


def test_an_expired_refresh_token_is_reported_as_expired(world: World, tokens: Tokens) -> None:
    """The owner only has to sign in again."""
    world.rows("UPDATE account SET refresh_token_expires_at = now() - interval '1 day'")
    tokens.gitlab.revoke()

    tokens.refresh()

    assert tokens.needed() == [("OAUTH2_EXPIRED", "error")]


@pytest.mark.parametrize("status", [429, 503])
def test_a_gitlab_that_did_not_process_the_token_is_asked_again_later(
    world: World, tokens: Tokens, status: int
) -> None:
    """The web app is warned once, and reconcile publishes the refresh until it succeeds."""
    right = tokens.gitlab.token
    tokens.gitlab.token = lambda _: (status, b"")  # type: ignore[method-assign]

    tokens.refresh()
    tokens.wait_for_gitlab()
    tokens.refresh()
    tokens.wait_for_gitlab()
    assert tokens.needed() == [("PROVIDER_ERROR", "warning")]
    assert tokens.statuses() == ["waiting_credential_renewal"]
    world.published.messages.clear()
    world.deliver("upkeep.reconcile")
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]
    tokens.gitlab.token = right  # type: ignore[method-assign]
    tokens.refresh()

    assert tokens.works()
    assert tokens.statuses() == ["queued"]


def test_an_unavailable_gitlab_is_asked_once_for_all_its_accounts(world: World, tokens: Tokens) -> None:
    """Otherwise the refreshes of a thousand accounts would keep all workers waiting, every half minute."""
    world.account("other")
    tokens.authorize("other")
    world.submit(world.order(account_id="other", gitlab_host=tokens.gitlab.url))
    world.assign()
    crawler, order = world.row("SELECT connection_id, crawler_job_id FROM crawler_order")
    tokens.outlive("other")
    Crawler(world, crawler).sends("token_refresh_request", order)
    tokens.gitlab.token = lambda _: (503, b"")  # type: ignore[method-assign]
    tokens.refresh()
    del tokens.gitlab.token

    tokens.refresh("other")
    tokens.refresh()

    assert tokens.gitlab.calls == 0
    assert tokens.needed() == [("PROVIDER_ERROR", "warning")]
    assert tokens.statuses() == ["waiting_credential_renewal"] * 2
    tokens.wait_for_gitlab()
    tokens.refresh("other")
    assert tokens.gitlab.calls == 1
    assert tokens.works("other")


def test_an_unreachable_gitlab_is_asked_again_later(world: World, tokens: Tokens) -> None:
    """A refused connection has not used the token."""
    tokens.gitlab.__exit__(None, None, None)

    tokens.refresh()

    assert tokens.needed() == [("NETWORK_ERROR", "warning")]
    assert world.scalar("SELECT count(*) FROM credential_refresh") == 0


def test_a_wrong_client_is_reported_to_the_operator(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event names the setting but not its secret, and the token is not used."""
    providers = {tokens.gitlab.url: {"client_id": "crawlyard", "client_secret": "hush-hush"}}
    monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS", json.dumps(providers))
    world.reload_settings()

    tokens.refresh()

    (event,) = world.events("credential_needed")
    assert (event.payload["error_type"], event.payload["severity"]) == ("PROVIDER_ERROR", "warning")
    assert "CRAWLYARD_OAUTH_PROVIDERS" in event.payload["action"]
    assert "hush-hush" not in str(event.payload)
    assert tokens.statuses() == ["waiting_credential_renewal"]


@pytest.mark.parametrize("url", ["http://gitlab..example", "http://gitlab\x7fexample"])
def test_a_gitlab_whose_url_cannot_be_called_uses_no_token(tokens: Tokens, url: str) -> None:
    """The HTTP client refuses a URL that passed as a setting: the token was not sent."""
    (provider,) = settings().oauth_providers.values()

    answer = refresh(url, provider, "refresh")

    assert isinstance(answer, NotProcessed)
    assert answer.error == CredentialError.PROVIDER_ERROR
    assert tokens.gitlab.calls == 0


def test_the_redirect_uri_is_sent_when_configured(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some GitLabs require the redirect_uri of the authorization in the refresh."""
    (provider,) = json.loads(tokens.gitlab.providers()).values()
    providers = {tokens.gitlab.url: provider | {"redirect_uri": "https://app.example.org/back"}}
    monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS", json.dumps(providers))
    world.reload_settings()
    forms, token = [], tokens.gitlab.token
    monkeypatch.setattr(tokens.gitlab, "token", lambda form: forms.append(form) or token(form))

    tokens.refresh()

    assert [form["redirect_uri"] for form in forms] == ["https://app.example.org/back"]
    assert tokens.works()


def test_a_refresh_token_that_is_not_rotated_is_kept(world: World, tokens: Tokens) -> None:
    """A provider may return only an access token, without a lifetime."""
    before = world.scalar("SELECT refresh_token FROM account WHERE id = 'acc'")
    tokens.gitlab.answer = lambda _: (200, b'{"access_token": "new"}')

    tokens.refresh()

    account = world.row("SELECT * FROM account WHERE id = 'acc'")
    assert (account.access_token, account.refresh_token) == ("new", before)
    assert account.access_token_expires_at is None
