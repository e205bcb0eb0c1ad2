"""Refreshing tokens at a GitLab, over real HTTP: one call for one refresh token, whatever happens."""

from importlib import import_module
from threading import Barrier, Thread
from typing import Any

import pytest

from console.simulator.gitlab import Reply
from persistence.exceptions import Contended, DatabaseLost
from persistence.schema.ids import AccountId
from persistence.settings import settings
from support.crashes import Killed
from support.worlds.tokens import Tokens
from support.worlds.world import Crawler, World


@pytest.fixture
def tokens(tokens: Tokens) -> Tokens:
    """The account's token has died, and one job waits for a new one."""
    tokens.die()
    return tokens


def test_a_new_pair_sets_everything_free(world: World, tokens: Tokens) -> None:
    """Tokens, their time, the account, its jobs, and who listens."""
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.works()
    account = world.row("SELECT *, access_token_expires_at - now() AS left FROM account WHERE id = 'acc'")
    assert 7190 < account.left.total_seconds() <= 7200
    assert tokens.statuses() == ["queued"]
    assert (tokens.lane().held_at, tokens.lane().held_reason) == (None, None)
    assert [e.account_id for e in world.events("credential_renewed")] == ["acc"]
    assert world.row("SELECT outcome, ended_at IS NULL FROM credential_refresh") == ("renewed", False)
    world.assign()
    assert world.one("SELECT count(*) FROM crawler_order") == 1


def test_many_that_ask_at_once_are_one_call(world: World, tokens: Tokens) -> None:
    """GitLab would revoke the family at the second one."""
    start = Barrier(6)

    def ask() -> None:
        start.wait()
        tokens.refresh()

    threads = [Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tokens.gitlab.calls == 1
    assert tokens.works()
    assert len(world.events("credential_renewed")) == 1


def test_no_transaction_is_open_during_the_call(world: World, tokens: Tokens) -> None:
    """A GitLab may take its time."""
    open_: list[int] = []

    def look(reply: Reply) -> Reply:
        open_.append(world.one("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
                               " AND datname = current_database()"))  # fmt: skip
        return reply

    tokens.gitlab.answer = look
    tokens.refresh()

    assert open_ == [0]


def test_a_write_that_fails_is_retried_alone(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away between the answer and the commit: the GitLab is not called again."""
    from persistence.unit_of_work import UnitOfWork  # noqa: PLC0415 - after the environment is set

    commit, lost = UnitOfWork.commit, iter([False, True, True])

    def commit_or_lose(uow: UnitOfWork) -> None:
        if next(lost, False):
            raise DatabaseLost("the server closed the connection")
        commit(uow)

    monkeypatch.setattr(UnitOfWork, "commit", commit_or_lose)
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.works()
    assert tokens.statuses() == ["queued"]


def test_a_claim_whose_commit_was_in_doubt_is_known_by_its_own_run(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed, but the caller saw an error: the run goes on with it, since it has not called yet."""
    from persistence.unit_of_work import UnitOfWork  # noqa: PLC0415

    commit, doubtful = UnitOfWork.commit, iter([True])

    def commit_in_doubt(uow: UnitOfWork) -> None:
        commit(uow)
        if next(doubtful, False):
            raise DatabaseLost("the connection was reset")

    monkeypatch.setattr(UnitOfWork, "commit", commit_in_doubt)
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.works()


def test_new_tokens_are_written_though_the_worker_stops_and_the_wait_was_long(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in its memory alone: no other delivery could write them."""
    from persistence.unit_of_work import UnitOfWork  # noqa: PLC0415

    commit, lost = UnitOfWork.commit, iter([False, True, True, True])

    def commit_or_lose(uow: UnitOfWork) -> None:
        if next(lost, False):
            raise Contended("somebody holds the lane")
        commit(uow)

    def stop(reply: Reply) -> Reply:
        monkeypatch.setattr("tasks.runtime.stopping.is_stopping", lambda: True)
        monkeypatch.setattr("tasks.runtime.retry.monotonic", lambda: float("inf"))
        return reply

    monkeypatch.setattr(UnitOfWork, "commit", commit_or_lose)
    tokens.gitlab.answer = stop
    tokens.refresh()

    assert next(lost, "no more") == "no more"
    assert tokens.works()
    assert tokens.statuses() == ["queued"]


def test_the_task_may_wait_twice_and_call_between() -> None:
    """Killed with the new tokens in its hands, it would lose them."""
    import celeryconfig  # noqa: PLC0415 - after the environment is set

    limit = import_module("tasks.app").app.tasks["credentials.refresh"].time_limit

    assert limit > 2 * settings().database_wait.total_seconds() + settings().http_timeout.total_seconds()
    assert limit > celeryconfig.task_time_limit


def test_a_claim_that_is_given_up_twice_is_not_another_runs(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given up, but the caller saw an error and does it again, while another run is calling: that one's stands."""
    from persistence.unit_of_work import UnitOfWork  # noqa: PLC0415

    commit, doubtful = UnitOfWork.commit, iter([False, True])

    def commit_in_doubt(uow: UnitOfWork) -> None:
        commit(uow)
        if next(doubtful, False):
            world.rows(
                "INSERT INTO credential_refresh (account_id, token_hash, claimed_by, started_at)"
                " SELECT id, encode(sha256(convert_to(refresh_token, 'UTF8')), 'hex'), 'another run', now()"
                " FROM account WHERE id = 'acc'"
            )
            raise DatabaseLost("the connection was reset")

    monkeypatch.setattr(UnitOfWork, "commit", commit_in_doubt)
    tokens.gitlab.answer = lambda _: (503, b"")
    tokens.refresh()
    tokens.wait_for_gitlab()
    tokens.refresh()

    assert world.one("SELECT claimed_by FROM credential_refresh") == "another run"
    assert tokens.gitlab.calls == 1


def test_killed_between_answer_and_commit_nobody_calls_again(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the claim is young nothing is decided; later it means a new authorization."""

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("tasks.credentials.refresh.settle_refresh", die)
        tokens.refresh()
    assert tokens.gitlab.calls == 1

    tokens.refresh()
    assert (tokens.needed(), tokens.statuses()) == ([], ["waiting_credential_renewal"])
    world.rows("UPDATE credential_refresh SET started_at = started_at - interval '1 minute'")
    world.deliver("upkeep.reconcile")
    assert world.rung.of("credentials.refresh")[-1:] == [{"account_id": "acc"}]
    tokens.refresh()
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.needed() == [("NETWORK_ERROR", "error")]
    assert tokens.statuses() == ["credential_expired"]
    assert tokens.lane().held_reason == "authorization_needed"


def test_the_web_apps_own_new_tokens_win(world: World, tokens: Tokens) -> None:
    """It has written others while the GitLab was being asked."""

    def meanwhile(reply: Reply) -> Reply:
        world.rows(
            "UPDATE account SET access_token = 'theirs', refresh_token = 'theirs too' WHERE id = 'acc'"
        )
        return reply

    tokens.gitlab.answer = meanwhile
    tokens.refresh()

    assert world.row("SELECT access_token, refresh_token FROM account WHERE id = 'acc'") == (
        "theirs",
        "theirs too",
    )
    assert world.one("SELECT outcome FROM credential_refresh") == "superseded"
    assert tokens.statuses() == ["queued"]


def test_a_gitlab_that_is_not_configured_never_sees_a_token(world: World, tokens: Tokens) -> None:
    """The job's URL names another one."""
    world.rows("""UPDATE job SET "gitlabGraphQLUrl" = 'http://127.0.0.1:1/api/graphql'""")

    tokens.refresh()

    assert tokens.gitlab.calls == 0
    assert tokens.needed() == [("OAUTH2_REVOKED", "error")]


def test_nothing_is_seated_for_a_token_that_is_about_to_expire(world: World, tokens: Tokens) -> None:
    """It is refreshed first; others go on."""
    tokens.refresh()
    tokens.gitlab.calls = 0
    world.rows("UPDATE account SET access_token_expires_at = now() + interval '200 seconds' WHERE id = 'acc'")
    world.rows("UPDATE account_lane SET renewed_at = now() - interval '1 hour'")
    world.account("other")
    (other,) = world.submit(world.order(account_id="other"))
    world.crawler()
    world.rung.bells.clear()

    world.assign()

    assert world.rows("SELECT web_app_job_id FROM job_queue WHERE status = 'processing'") == [(other,)]
    assert tokens.lane().held_reason == "token_expiring"
    assert world.rung.of("credentials.refresh") == [{"account_id": "acc"}]
    tokens.refresh()
    world.assign()
    assert tokens.gitlab.calls == 1
    assert world.one("SELECT count(*) FROM job_queue WHERE status = 'processing'") == 2


def test_a_token_of_a_short_life_is_used_all_the_same(world: World, tokens: Tokens) -> None:
    """Renewed just now, it would be renewed for ever."""
    tokens.refresh()
    world.rows("UPDATE account SET access_token_expires_at = now() + interval '60 seconds' WHERE id = 'acc'")

    world.assign()

    assert world.one("SELECT count(*) FROM job_queue WHERE status = 'processing'") == 1


def test_no_secret_is_told(world: World, tokens: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    """Neither tokens nor the client's secret, in any table but `account`, nor in a log."""
    old = world.row("SELECT access_token, refresh_token FROM account WHERE id = 'acc'")
    tokens.refresh()
    new = world.row("SELECT access_token, refresh_token FROM account WHERE id = 'acc'")

    tables = world.rows(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'account'"
    )
    for secret in (*old, *new, tokens.gitlab.client_secret):
        assert secret not in caplog.text
        for (table,) in tables:
            assert world.one(f'SELECT count(*) FROM "{table}" t WHERE strpos(t::text, :s) > 0', s=secret) == 0


def test_an_account_that_is_not_held_is_left_alone(world: World, tokens: Tokens) -> None:
    """A bell too many is harmless."""
    tokens.refresh()
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    tokens.world.deliver("credentials.refresh", account_id="nobody")
    assert world.rejections() == []


def test_an_account_that_nothing_waits_for_is_let_go(world: World, tokens: Tokens) -> None:
    """Nobody knows its GitLab then: to ask the web app would hold for ever what is refreshed when it is needed."""
    world.rows("DELETE FROM job")
    world.rows("DELETE FROM socket_connection")

    tokens.refresh()

    assert (tokens.gitlab.calls, tokens.needed()) == (0, [])
    assert (tokens.lane().held_at, tokens.lane().renewed_at) == (None, None)
    crawler, (order,) = tokens.at_work()
    crawler.says("token_refresh_request", order)
    tokens.refresh()
    assert tokens.gitlab.calls == 1
    assert tokens.works()


def test_a_new_authorization_is_waited_for_even_if_no_job_waits(world: World, tokens: Tokens) -> None:
    """That the refresh token is of no use is known: the next job would only find out again."""
    tokens.gitlab.revoke()
    tokens.refresh()
    world.deliver("jobs.cancel", account_id="acc")

    tokens.refresh()

    assert tokens.lane().held_reason == "authorization_needed"
    assert tokens.needed() == [("OAUTH2_REVOKED", "error")]


def test_the_gitlab_is_known_however_the_web_app_writes_it(world: World, tokens: Tokens) -> None:
    """Schemes and hosts know no case, and the providers are in small letters."""
    world.rows("""UPDATE job SET "gitlabGraphQLUrl" = 'HTTP' || substr("gitlabGraphQLUrl", 5)""")

    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.statuses() == ["queued"]


def test_the_gitlab_is_that_of_the_jobs_that_wait_for_a_token(world: World, tokens: Tokens) -> None:
    """Not that of one that is paused, and needs none."""
    (paused,) = world.submit(world.order(gitlab_host="https://another.example.org"))
    world.deliver("jobs.pause", job_ids=[paused])

    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.works()


def test_a_refresh_waits_for_whoever_holds_the_lane(world: World, tokens: Tokens) -> None:
    """It looks at the account after that: who lets it go meanwhile has spared it the call."""
    with world.unit() as uow:
        uow.lanes.lock([AccountId("acc")])
        asking = world.in_thread(tokens.refresh)
        world.until_somebody_waits_for_a_lock()
        uow.credentials.let_go(AccountId("acc"))
        uow.commit()
    asking.join()

    assert tokens.gitlab.calls == 0


def test_one_more_attempt_that_dies_asks_nobody_again(world: World, tokens: Tokens) -> None:
    """The account waits for a new authorization already."""
    tokens.refresh()
    world.jobs(1, gitlab_host=tokens.gitlab.url)
    world.crawler()
    world.assign()
    (crawler, first), (another, second) = world.rows(
        "SELECT connection_id, crawler_job_id FROM crawler_order ORDER BY crawler_job_id"
    )
    tokens.gitlab.revoke()
    Crawler(world, crawler).says("token_refresh_request", first)
    tokens.refresh()

    Crawler(world, another).says("token_refresh_request", second)
    tokens.refresh()

    assert tokens.gitlab.calls == 2
    assert tokens.needed() == [("OAUTH2_REVOKED", "error")]
    assert tokens.lane().held_reason == "authorization_needed"
