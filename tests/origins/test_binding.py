"""What binds an account to its GitLab, in which order, and only once."""

import json
from collections.abc import Callable

import pytest

from support.worlds.world import World
from tasks.origins.binding import AccountFacts, origin_for

OURS = "https://gitlab.example.org"
OTHER = "https://git.example.net"
PLAIN = "http://gitlab.example.org"
CLOUD = "https://gitlab.com"
JIRA = "https://x.atlassian.net"
ONPREM = "gitlab-onprem"

Configured = Callable[..., None]


def facts(provider: str | None = None, *, refresh: bool = False, scope: str | None = None) -> AccountFacts:
    """What the web app says of an account."""
    return AccountFacts(provider, refresh, scope)


@pytest.fixture
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> Configured:
    """Set which GitLabs an operator has named."""

    def configure(allowed: str = "", providers: str = "") -> None:
        client = {"client_id": "a", "client_secret": "b"}
        monkeypatch.setenv("CRAWLYARD_ALLOWED_ORIGINS", allowed)
        monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS", json.dumps(dict.fromkeys(providers.split(), client)))
        world.reload_settings()

    return configure


@pytest.mark.parametrize(
    ("named", "account", "jobs", "bound"),
    [
        ({}, facts(), [OURS], (OURS, "first_job")),
        ({}, facts(), [PLAIN], None),
        ({}, facts(), [PLAIN, OTHER], (OTHER, "first_job")),
        ({}, facts(), ["http://127.0.0.1:3000"], ("http://127.0.0.1:3000", "first_job")),
        ({}, facts(), ["nonsense"], None),
        ({}, facts(), [], None),
        ({"allowed": OURS}, facts(), [OTHER], None),
        ({"allowed": OURS}, facts(), [OTHER, OURS], (OURS, "allowed_origins")),
        ({"allowed": f"{OURS}, {PLAIN}"}, facts(), [PLAIN], (PLAIN, "allowed_origins")),
        ({}, facts(scope=f"{OTHER}/api/graphql"), [OURS], (OTHER, "scope_job")),
        ({}, facts(scope=f"{PLAIN}/api/graphql"), [OURS], (OURS, "first_job")),
        ({}, facts("gitlab-cloud", scope=OTHER), [OURS], (CLOUD, "provider")),
        ({"allowed": OURS}, facts(ONPREM, refresh=True), [OTHER], (OURS, "provider")),
        ({"providers": OURS}, facts(ONPREM, refresh=True), [OTHER], (OURS, "provider")),
        ({"providers": f"{OURS} {CLOUD}"}, facts(ONPREM, refresh=True), [OTHER], (OURS, "provider")),
        ({"providers": f"{OURS} {OTHER}"}, facts(ONPREM, refresh=True), [OTHER], (OTHER, "first_job")),
        ({"providers": OURS}, facts(ONPREM), [OTHER], (OTHER, "first_job")),
        ({"allowed": OURS}, facts("jiracloud"), [JIRA], (JIRA, "first_job")),
        ({"providers": OURS}, facts("jiralocal", refresh=True), [OTHER], (OTHER, "first_job")),
    ],
)
def test_an_account_is_bound_by_the_first_that_tells(
    configured: Configured,
    named: dict[str, str],
    account: AccountFacts,
    jobs: list[str],
    bound: tuple[str, str] | None,
) -> None:
    """The provider, its scope job, then its first job; http only where it was written."""
    configured(**named)

    assert origin_for(account, jobs) == bound


def test_a_newcomers_first_order_simply_works(world: World) -> None:
    """Nothing is configured: the first https order binds the account, and is assigned."""
    crawler = world.crawler()
    world.jobs(1)

    world.assign()

    assert len(crawler.orders()) == 1
    assert world.rows("SELECT account_id, origin, bound_by FROM account_origin") == [
        ("acc", OURS, "first_job")
    ]


def test_the_scope_job_of_the_account_binds_it(world: World) -> None:
    """The web app made it when the account was authorized."""
    world.insert_job(command="authorizationScope", full_path=None, gitlabGraphQLUrl=f"{OTHER}/api/graphql")

    world.jobs(1)

    assert world.rows("SELECT origin, bound_by FROM account_origin") == [(OTHER, "scope_job")]


def test_the_first_order_of_one_message_binds_the_account(world: World) -> None:
    """The others are held: an account has one GitLab."""
    first, second = world.submit(world.order(), world.order(gitlab_host=OTHER))

    assert (world.entry(first).held, world.entry(second).held) == (False, True)
    assert world.scalar("SELECT origin FROM account_origin") == OURS
