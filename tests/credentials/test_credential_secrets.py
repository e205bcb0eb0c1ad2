"""Tokens and the client's secret appear in no log, no output, and no table but `account`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest

from support.worlds.tokens import Tokens
from support.worlds.world import World


def test_the_accounts_own_token_is_redacted_from_crawler_details(world: World, tokens: Tokens) -> None:
    """The token is redacted although it does not look like a secret."""
    crawler, (order,) = tokens.at_work()
    token = world.scalar("SELECT access_token FROM account WHERE id = 'acc'")

    crawler.sends("token_refresh_request", order, error_details=f"401: {token} was not accepted")

    assert world.scalar("SELECT error_message FROM job_error_log") == "401: [redacted] was not accepted"


ANSWERS = {
    "refused": lambda _: (400, b'{"error": "invalid_grant"}'),
    "a token in the wrong place": lambda reply: (500, reply[1]),
    "a token in an error": lambda reply: (400, b'{"error": ' + reply[1] + b"}"),
    "the write refused": lambda reply: reply,
}


@contextmanager
def refusing_writes(world: World) -> Iterator[None]:
    """Let the web app's table refuse the new tokens."""
    world.rows("ALTER TABLE account ADD CONSTRAINT refused CHECK (refresh_token IS NULL) NOT VALID")
    try:
        yield
    finally:
        world.rows("ALTER TABLE account DROP CONSTRAINT refused")
    assert world.rejections() == [("credentials.refresh", "failed")]


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Everything that was logged or printed, at any level."""
    caplog.set_level("DEBUG")
    return lambda: [caplog.text, *capfd.readouterr()]


@pytest.mark.parametrize("outcome", ANSWERS)
def test_no_secret_is_shown_on_failure(
    world: World, tokens: Tokens, outcome: str, logged: Callable[[], list[str]]
) -> None:
    """No table, log or output contains a token, a lost new token or the client's secret."""
    tokens.die()
    tokens.gitlab.answer = ANSWERS[outcome]

    with refusing_writes(world) if outcome == "the write refused" else nullcontext():
        tokens.refresh()

    tables = world.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    messages = logged()
    for (table,) in tables:
        if table != "account":
            messages += [row for (row,) in world.rows(f'SELECT CAST(t AS text) FROM "{table}" t')]
    secrets = [*tokens.gitlab.issued, tokens.gitlab.client_secret]
    assert len(secrets) >= 3
    assert [secret for secret in secrets if any(secret in text for text in messages)] == []


def test_no_secret_is_logged_or_published(
    world: World, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    """No log, and no table but `account`, contains a token or the client's secret."""
    tokens.die()
    old = world.row("SELECT access_token, refresh_token FROM account WHERE id = 'acc'")
    tokens.refresh()
    new = world.row("SELECT access_token, refresh_token FROM account WHERE id = 'acc'")

    tables = world.rows(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'account'"
    )
    for secret in (*old, *new, tokens.gitlab.client_secret):
        assert secret not in caplog.text
        for (table,) in tables:
            assert (
                world.scalar(f'SELECT count(*) FROM "{table}" t WHERE strpos(t::text, :s) > 0', s=secret) == 0
            )
