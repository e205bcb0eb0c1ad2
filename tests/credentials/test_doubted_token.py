"""A crawler that says a token died makes its job wait; its account is blocked only if something else says so too."""

from collections.abc import Iterator
from typing import Any

import pytest

from console.simulator.gitlab import GitLab, Reply
from persistence.schema.ids import AccountId
from support.worlds.tokens import Tokens
from support.worlds.world import Crawler, World
from tasks.credentials.refresh import reserve_refresh
from tasks.credentials.token_info import TokenState, check_token

PROGRESS = {"stage": "fetching", "entityType": "issue", "processed": 1}
WAITS = "waiting_credential_renewal"


@pytest.fixture
def tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tokens]:
    """An account with tokens of a GitLab that tells whether they work, and refreshes them."""
    with GitLab() as gitlab:
        monkeypatch.setenv("CRAWLYARD_OAUTH_PROVIDERS", gitlab.providers())
        world.reload_settings()
        tokens = Tokens(world, gitlab)
        tokens.authorize()
        yield tokens


def silent(_: Reply) -> Reply:
    """An answer that tells nothing."""
    return 503, b""


def pass_time(world: World, minutes: int) -> None:
    """Let time pass for accounts and for GitLabs that told nothing."""
    world.rows(
        "UPDATE account_lane SET held_at = held_at - make_interval(mins => :m),"
        " doubted_at = doubted_at - make_interval(mins => :m), probing_at = probing_at - make_interval(mins => :m)",
        m=minutes,
    )
    world.rows("DELETE FROM periodic_ring")


def test_a_token_that_its_gitlab_calls_alive_blocks_nobody(world: World, tokens: Tokens) -> None:
    """The job waits for the answer, the account's other jobs do not, and then it is queued again."""
    crawler, (order,) = tokens.at_work()
    waiting = world.submit(world.order(gitlab_host=tokens.gitlab.url))

    crawler.sends("token_refresh_request", order)

    assert sorted(tokens.statuses()) == ["queued", WAITS]
    assert (tokens.account_queue().held_at, crawler.orders()) == (None, [])
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]
    world.assign()
    assert world.entry(waiting[0]).status == "processing"

    tokens.refresh()

    assert (tokens.gitlab.checks, tokens.gitlab.calls, tokens.needed()) == (1, 0, [])
    assert tokens.statuses() == ["queued", "queued"]
    assert (tokens.account_queue().doubted_at, tokens.account_queue().held_token) == (None, None)


def test_a_token_that_its_gitlab_calls_dead_is_refreshed(world: World, tokens: Tokens) -> None:
    """The account is blocked by the answer, and unblocked by the new token, without another message."""
    crawler, (order,) = tokens.at_work()
    tokens.gitlab.expire()
    crawler.sends("token_refresh_request", order)

    tokens.refresh()

    assert (tokens.gitlab.checks, tokens.gitlab.calls) == (1, 1)
    assert (tokens.statuses(), tokens.works()) == (["queued"], True)
    assert tokens.account_queue().held_at is None


def test_ten_reports_of_ten_accounts_block_none(world: World, tokens: Tokens) -> None:
    """However many accounts a crawler names, it blocks none of them, and nobody is asked to sign in again."""
    names = [f"acc-{n}" for n in range(10)]
    for name in names:
        world.account(name)
        tokens.authorize(name)
        world.submit(world.order(account_id=name, gitlab_host=tokens.gitlab.url))
    crawler = world.crawler(capacity=10)
    world.assign()

    world.sends(*(crawler.frame("token_refresh_request", order) for order in crawler.orders()))
    for name in names:
        tokens.refresh(name)

    assert world.rows("SELECT account_id FROM account_lane WHERE held_at IS NOT NULL") == []
    assert (tokens.statuses(), tokens.needed()) == (["queued"] * 10, [])


def test_an_expired_token_blocks_at_once(world: World, tokens: Tokens) -> None:
    """Nobody has to be asked, and it does not count as a doubt of its connection."""
    crawler, (order,) = tokens.at_work()
    tokens.outlive()

    crawler.sends("token_refresh_request", order)

    assert (tokens.account_queue().held_reason, crawler.row().doubts) == ("token_died", 0)


def report_three(world: World, tokens: Tokens) -> Crawler:
    """Let three jobs say that the token died, of which nothing else is known; another one waits."""
    tokens.gitlab.tells = silent
    crawler, orders = tokens.at_work(3)
    world.submit(world.order(gitlab_host=tokens.gitlab.url))
    for order in orders:
        crawler.sends("token_refresh_request", order)
    return crawler


def test_three_jobs_that_say_so_block_their_account_for_a_time(world: World, tokens: Tokens) -> None:
    """Then one job probes the token: its progress unblocks all of them, without a new token."""
    crawler = report_three(world, tokens)
    assert tokens.account_queue().held_reason == "token_doubted"
    pass_time(world, 14)
    tokens.refresh()
    world.assign()
    assert crawler.orders() == []

    pass_time(world, 2)
    tokens.refresh()
    world.assign()
    (probe,) = crawler.orders()
    assert sorted(tokens.statuses()) == ["queued", "queued", WAITS, WAITS]
    crawler.sends("job_progress", probe, **PROGRESS)
    tokens.refresh()
    world.assign()

    assert tokens.statuses().count("queued") == 3
    assert (len(crawler.orders()), tokens.account_queue().doubted_at, tokens.needed()) == (3, None, [])


def test_a_probe_that_says_so_blocks_its_account_again(world: World, tokens: Tokens) -> None:
    """One report is enough then."""
    crawler = report_three(world, tokens)
    pass_time(world, 16)
    tokens.refresh()
    world.assign()
    (probe,) = crawler.orders()

    crawler.sends("token_refresh_request", probe)

    assert (tokens.account_queue().held_reason, tokens.account_queue().probing_at) == ("token_doubted", None)
    world.assign()
    assert crawler.orders() == []


def test_two_jobs_that_say_so_block_nobody(world: World, tokens: Tokens) -> None:
    """They wait for their time, and are queued again if nobody knows more."""
    tokens.gitlab.tells = silent
    crawler, orders = tokens.at_work(2)
    world.sends(*(crawler.frame("token_refresh_request", order) for order in orders))
    pass_time(world, 14)
    tokens.refresh()
    assert (tokens.account_queue().held_at, tokens.statuses()) == (None, [WAITS] * 2)

    pass_time(world, 2)
    world.deliver("upkeep.reconcile")
    assert world.published.of("credentials.refresh")[-1] == {"account_id": "acc"}
    tokens.refresh()

    assert (tokens.account_queue().doubted_at, tokens.statuses()) == (None, ["queued"] * 2)


def test_progress_in_between_refutes_reports(world: World, tokens: Tokens) -> None:
    """A job of the account that got further since the first report proves that its token works."""
    tokens.gitlab.tells = silent
    crawler, (honest, *others) = tokens.at_work(4)
    crawler.sends("token_refresh_request", others[0])
    crawler.sends("job_progress", honest, **PROGRESS)

    for order in others[1:]:
        crawler.sends("token_refresh_request", order)

    assert tokens.account_queue().held_at is None
    tokens.refresh()
    assert (sorted(tokens.statuses()), tokens.gitlab.checks) == (["queued"] * 3 + ["running"], 0)


def test_a_start_refutes_nothing(world: World, tokens: Tokens) -> None:
    """It needs no token."""
    tokens.gitlab.tells = silent
    crawler, (idle, *others) = tokens.at_work(4)
    crawler.sends("token_refresh_request", others[0])
    crawler.sends("job_started", idle)

    for order in others[1:]:
        crawler.sends("token_refresh_request", order)

    assert tokens.account_queue().held_reason == "token_doubted"


def test_a_completed_job_refutes_reports(world: World, tokens: Tokens) -> None:
    """Also if its attempt is over."""
    tokens.gitlab.tells = silent
    crawler, (honest, *others) = tokens.at_work(4)
    crawler.sends("token_refresh_request", others[0])
    crawler.sends("job_completed", honest, success=True)

    for order in others[1:]:
        crawler.sends("token_refresh_request", order)

    assert tokens.account_queue().held_at is None


def test_a_connection_brings_few_accounts_into_doubt_an_hour(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says beyond that is a failure of its job alone, with a try counted and a backoff."""
    monkeypatch.setenv("CRAWLYARD_MAX_TOKEN_DOUBTS", "1")
    world.reload_settings()
    crawler, (order,) = tokens.at_work()
    world.account("other")
    tokens.authorize("other")
    world.submit(world.order(account_id="other", gitlab_host=tokens.gitlab.url))
    world.rows("UPDATE socket_connection SET capacity = 2")
    world.assign()
    (other,) = set(crawler.orders()) - {order}

    world.sends(crawler.frame("token_refresh_request", order), crawler.frame("token_refresh_request", other))

    assert sorted(tokens.statuses()) == ["queued", WAITS]
    (error,) = world.rows("SELECT * FROM job_error_log WHERE error_message LIKE 'the crawler said%'")
    entry = world.entry(error.job_id)
    assert (error.error_type, entry.attempts, entry.ready) == ("CredentialExpired", 1, False)

    world.rows("UPDATE socket_connection SET doubts_from = doubts_from - interval '61 minutes'")
    world.rows("UPDATE account_lane SET doubted_at = NULL")
    world.rows("UPDATE job_queue SET ready = true, scheduled_at = now() WHERE NOT held")
    world.assign()
    crawler.sends("token_refresh_request", *crawler.orders())
    assert crawler.row().doubts == 1


def test_another_token_ends_the_doubt(world: World, tokens: Tokens) -> None:
    """Without a message of the web app too."""
    crawler, (order,) = tokens.at_work()
    crawler.sends("token_refresh_request", order)
    tokens.authorize()

    tokens.refresh()

    assert (tokens.statuses(), tokens.gitlab.checks) == (["queued"], 0)
    assert tokens.account_queue().doubted_at is None


def test_an_answer_about_a_replaced_token_settles_nothing(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token was replaced during the call: the new one is neither blocked nor refreshed."""
    crawler, (order,) = tokens.at_work()
    tokens.gitlab.expire()
    crawler.sends("token_refresh_request", order)
    world.published.messages.clear()

    def replaced_meanwhile(reply: Reply) -> Reply:
        tokens.authorize()
        return reply

    tokens.gitlab.tells = replaced_meanwhile
    tokens.refresh()

    assert tokens.account_queue().held_at is None
    assert tokens.gitlab.calls == 0
    assert world.published.of("credentials.refresh") == [{"account_id": "acc"}]
    tokens.refresh()
    assert tokens.statuses() == ["queued"]


def test_only_the_origin_of_the_account_is_asked(world: World, tokens: Tokens) -> None:
    """The token goes nowhere else; without a binding nobody is asked."""
    crawler, (order,) = tokens.at_work()
    crawler.sends("token_refresh_request", order)
    world.rows("DELETE FROM account_origin")

    tokens.refresh()

    assert (tokens.gitlab.checks, tokens.statuses()) == (0, [WAITS])


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ((200, b'{"resource_owner_id": 1, "expires_in": 7}'), TokenState.ALIVE),
        ((200, b'{"user_id": 1, "active": true, "revoked": false}'), TokenState.ALIVE),
        ((200, b'{"user_id": 1, "active": false, "revoked": false}'), TokenState.DEAD),
        ((200, b'{"user_id": 1, "revoked": true}'), TokenState.DEAD),
        ((401, b'{"error": "invalid_token"}'), TokenState.DEAD),
        ((401, b'{"message": "401 Unauthorized"}'), TokenState.DEAD),
        ((401, b"<html>a proxy</html>"), TokenState.UNKNOWN),
        ((200, b"<html>a login page</html>"), TokenState.UNKNOWN),
        ((200, b"{}"), TokenState.UNKNOWN),
        ((302, b""), TokenState.UNKNOWN),
        ((403, b'{"error": "insufficient_scope"}'), TokenState.UNKNOWN),
        ((404, b'{"error": "404 Not Found"}'), TokenState.UNKNOWN),
        ((429, b""), TokenState.UNKNOWN),
        ((503, b""), TokenState.UNKNOWN),
    ],
)
def test_only_a_clear_answer_counts(tokens: Tokens, answer: Reply, state: TokenState) -> None:
    """Whatever else comes tells nothing."""
    tokens.gitlab.tells = lambda _: answer

    assert check_token(tokens.gitlab.url, "a token", is_oauth=True) is state


def test_a_personal_token_is_asked_about_where_and_as_gitlab_reads_it(tokens: Tokens) -> None:
    """In the header PRIVATE-TOKEN, of /personal_access_tokens/self; an OAuth token stands in another, elsewhere."""
    personal, (oauth, _) = tokens.gitlab.authorize_personally(), tokens.gitlab.authorize()
    url = tokens.gitlab.url

    assert check_token(url, personal, is_oauth=False) is TokenState.ALIVE
    assert check_token(url, oauth, is_oauth=True) is TokenState.ALIVE
    assert check_token(url, personal, is_oauth=True) is TokenState.DEAD
    assert check_token(url, oauth, is_oauth=False) is TokenState.ALIVE  # that nothing refreshes
    assert check_token(f"{url}/gitlab", personal, is_oauth=False) is TokenState.UNKNOWN
    tokens.gitlab.revoke()
    assert check_token(url, personal, is_oauth=False) is TokenState.DEAD
    assert check_token(url, "of somebody else", is_oauth=False) is TokenState.DEAD
    assert tokens.gitlab.checks == 9


@pytest.mark.parametrize("is_alive", [True, False])
def test_the_personal_token_of_an_account_is_checked(world: World, tokens: Tokens, *, is_alive: bool) -> None:
    """An account without a refresh token has one; where it is dead, its owner is asked for another."""
    world.rows(
        "UPDATE account SET access_token = :token, refresh_token = NULL, access_token_expires_at = NULL",
        token=tokens.gitlab.authorize_personally(),
    )
    crawler, (order,) = tokens.at_work()
    if not is_alive:
        tokens.gitlab.revoke()
    crawler.sends("token_refresh_request", order)

    tokens.refresh()

    assert (tokens.gitlab.checks, tokens.gitlab.calls) == (1 if is_alive else 2, 0)
    assert tokens.statuses() == (["queued"] if is_alive else [WAITS])
    assert tokens.needed() == ([] if is_alive else [("PAT_REVOKED", "error")])


@pytest.mark.parametrize("origin", ["http://127.0.0.1:1", "http://", "http://a b"])
def test_a_gitlab_that_cannot_be_asked_tells_nothing(world: World, origin: str) -> None:
    """No error leaves the call."""
    assert check_token(origin, "a token", is_oauth=False) is TokenState.UNKNOWN


def test_a_token_that_is_no_header_is_never_sent(tokens: Tokens) -> None:
    """Nor does it raise."""
    assert check_token(tokens.gitlab.url, "a\nb\u20ac", is_oauth=True) is TokenState.UNKNOWN
    assert tokens.gitlab.checks == 0


def test_no_token_is_shown_by_what_is_held_of_it(world: World, tokens: Tokens) -> None:
    """Neither by a doubt nor by a question, as a log or a trace would show them."""
    crawler, (order,) = tokens.at_work()
    crawler.sends("token_refresh_request", order)
    token: Any = world.scalar("SELECT access_token FROM account WHERE id = 'acc'")

    with world.unit() as uow:
        doubt = uow.doubts.find(AccountId("acc"))
        check = reserve_refresh(uow, AccountId("acc"), "this run")

    assert doubt is not None
    assert check is not None
    assert token not in repr(doubt) + repr(check)
