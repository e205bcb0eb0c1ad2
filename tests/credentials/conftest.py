"""Fixtures of accounts and their tokens."""

import pytest

from support.worlds.tokens import Tokens
from support.worlds.world import World


@pytest.fixture
def without_provider(monkeypatch: pytest.MonkeyPatch, world: World, tokens: Tokens) -> None:
    """No OAuth provider is configured, so no token can be refreshed here."""
    monkeypatch.delenv("CRAWLYARD_OAUTH_PROVIDERS")
    world.reload_settings()
