"""What a crawler says of a token is proof once an attempt of another crawler credential says the same."""

import pytest

from console.simulator.gitlab import Reply
from support.worlds.tokens import Tokens
from support.worlds.world import Crawler, World

PROGRESS = {"stage": "fetching", "entityType": "issue", "processed": 1}


@pytest.fixture
def tokens(tokens: Tokens) -> Tokens:
    """An account with tokens of a GitLab that does not tell whether they work."""

    def silent(_: Reply) -> Reply:
        return 503, b""

    tokens.gitlab.tells = silent
    return tokens


def of(credential: str | None, tokens: Tokens, jobs: int = 1) -> tuple[Crawler, list[str]]:
    """A crawler of this credential, as the gateway would fill it in, at work on jobs of the account."""
    crawler, orders = tokens.at_work(jobs)
    tokens.world.rows(
        "UPDATE socket_connection SET crawler_credential = :name WHERE id = :id",
        name=credential,
        id=crawler.id,
    )
    return crawler, orders


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [("a", "b", "token_died"), ("a", "a", None), ("a", None, None), (None, "b", None), (None, None, None)],
)
def test_another_credential_that_says_so_is_proof(
    tokens: Tokens, first: str | None, second: str | None, reason: str | None
) -> None:
    """Two connections of one credential may be one crawler, and so may those of none."""
    reports = [of(credential, tokens) for credential in (first, second)]
    for crawler, (order,) in reports:
        assert tokens.account_queue().held_reason is None
        crawler.sends("token_refresh_request", order)

    queue = tokens.account_queue()
    assert (queue.held_reason, queue.doubted_at is None) == (reason, reason is not None)


def test_a_token_that_is_proven_dead_is_refreshed(world: World, tokens: Tokens) -> None:
    """Its GitLab is not asked first, though it would not have told; all jobs are queued again with the new token."""
    reports = [of(credential, tokens) for credential in ("a", "b")]
    world.sends(*(crawler.frame("token_refresh_request", order) for crawler, (order,) in reports))
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]

    tokens.refresh()

    assert (tokens.gitlab.checks, tokens.gitlab.calls, tokens.works()) == (0, 1, True)
    assert (tokens.statuses(), tokens.account_queue().held_at) == (["queued"] * 2, None)


def test_progress_in_between_refutes_the_other_credential(tokens: Tokens) -> None:
    """The token worked after the first report; the second one may be about something else."""
    honest, (running,) = of("c", tokens)
    reports = [of(credential, tokens) for credential in ("a", "b")]
    for n, (crawler, (order,)) in enumerate(reports):
        crawler.sends("token_refresh_request", order)
        if n == 0:
            honest.sends("job_progress", running, **PROGRESS)

    assert tokens.account_queue().held_reason is None


def test_progress_before_both_reports_refutes_neither(tokens: Tokens) -> None:
    """A report that was refuted is not what the others are compared with."""
    honest, (running,) = of("c", tokens)
    reports = [of(credential, tokens) for credential in ("a", "b", "a")]
    for n, (crawler, (order,)) in enumerate(reports):
        crawler.sends("token_refresh_request", order)
        if n == 0:
            honest.sends("job_progress", running, **PROGRESS)

    assert tokens.account_queue().held_reason == "token_died"


def test_an_account_that_is_blocked_for_a_time_is_blocked_for_good_by_proof(tokens: Tokens) -> None:
    """One credential's three jobs blocked it for a time; another one's ends the doubt."""
    other, (late,) = of("b", tokens)
    crawler, orders = of("a", tokens, 3)
    for order in orders:
        crawler.sends("token_refresh_request", order)
    assert tokens.account_queue().held_reason == "token_doubted"

    other.sends("token_refresh_request", late)

    queue = tokens.account_queue()
    assert (queue.held_reason, queue.doubted_at, queue.probing_at) == ("token_died", None, None)
