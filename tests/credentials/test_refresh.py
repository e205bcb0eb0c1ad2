"""Refreshing tokens at a GitLab over real HTTP: each refresh token is sent once, whatever happens."""

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
from tasks.client import Producer


@pytest.fixture
def tokens(tokens: Tokens) -> Tokens:
    """The account's token has died, and one job waits for a new one."""
    tokens.die()
    return tokens


def test_a_new_token_pair_unblocks_the_account(world: World, tokens: Tokens) -> None:
    """The tokens and their expiry are written, the jobs are queued, and an event is added."""
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.works()
    account = world.row("SELECT *, access_token_expires_at - now() AS left FROM account WHERE id = 'acc'")
    assert 7190 < account.left.total_seconds() <= 7200
    assert tokens.statuses() == ["queued"]
    assert (tokens.account_queue().held_at, tokens.account_queue().held_reason) == (None, None)
    assert [e.account_id for e in world.events("credential_renewed")] == ["acc"]
    assert world.row("SELECT outcome, ended_at IS NULL FROM credential_refresh") == ("renewed", False)
    world.assign()
    assert world.scalar("SELECT count(*) FROM crawler_order") == 1


def test_concurrent_refreshes_make_one_call(world: World, tokens: Tokens) -> None:
    """GitLab would revoke the family of tokens at the second call."""
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
    """A slow GitLab keeps no locks."""
    open_: list[int] = []

    def look(reply: Reply) -> Reply:
        open_.append(world.scalar("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
                               " AND datname = current_database()"))  # fmt: skip
        return reply

    tokens.gitlab.answer = look
    tokens.refresh()

    assert open_ == [0]


def test_a_write_that_fails_is_retried_alone(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the database is lost between the answer and the commit, the GitLab is not called again."""
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


def test_a_reservation_with_a_doubtful_commit_is_recognized_by_its_run(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the commit succeeded but raised an error, the run may call, since it has not called yet."""
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


def test_new_tokens_are_written_although_the_worker_is_stopping(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They exist only in its memory, so no other delivery could write them."""
    from persistence.unit_of_work import UnitOfWork  # noqa: PLC0415

    commit, lost = UnitOfWork.commit, iter([False, True, True, True])

    def commit_or_lose(uow: UnitOfWork) -> None:
        if next(lost, False):
            raise Contended("another transaction has locked the account queue")
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


def test_the_time_limit_allows_two_waits_and_a_call() -> None:
    """A task that is killed before its write loses the new tokens."""
    import celeryconfig  # noqa: PLC0415 - after the environment is set

    limit = import_module("tasks.app").app.tasks["credentials.refresh"].time_limit

    assert limit > 2 * settings().database_wait.total_seconds() + settings().http_timeout.total_seconds()
    assert limit > celeryconfig.task_time_limit


def test_a_reservation_cancelled_twice_does_not_cancel_another_runs(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation that is retried after a doubtful commit leaves a newer reservation alone."""
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

    assert world.scalar("SELECT claimed_by FROM credential_refresh") == "another run"
    assert tokens.gitlab.calls == 1


def test_a_kill_between_answer_and_commit_causes_no_second_call(
    world: World, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A young reservation is left alone; a stale one leads to a new authorization."""

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
    assert world.published.of("credentials.refresh")[-1:] == [{"account_id": "acc"}]
    tokens.refresh()
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.needed() == [("NETWORK_ERROR", "error")]
    assert tokens.statuses() == ["credential_expired"]
    assert tokens.account_queue().held_reason == "authorization_needed"


def test_new_tokens_written_by_the_web_app_win(world: World, tokens: Tokens) -> None:
    """Tokens that the web app writes during the call are not overwritten."""

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
    assert world.scalar("SELECT outcome FROM credential_refresh") == "superseded"
    assert tokens.statuses() == ["queued"]


def test_a_gitlab_that_is_not_configured_never_sees_a_token(world: World, tokens: Tokens) -> None:
    """The web app is asked for new tokens if the account is bound to another GitLab, whatever its jobs' URLs are."""
    world.rows("UPDATE account_origin SET origin = 'http://127.0.0.1:1'")

    tokens.refresh()

    assert tokens.gitlab.calls == 0
    assert tokens.needed() == [("OAUTH2_EXPIRED", "error")]


def test_an_account_that_is_not_blocked_is_unchanged(world: World, tokens: Tokens) -> None:
    """Publishing the refresh once too often is harmless."""
    tokens.refresh()
    tokens.refresh()

    assert tokens.gitlab.calls == 1
    tokens.world.deliver("credentials.refresh", account_id="nobody")
    assert world.rejections() == []


def test_an_account_without_waiting_jobs_is_unblocked(world: World, tokens: Tokens) -> None:
    """Its GitLab is unknown then; the next job blocks it again, and its token is refreshed when it is needed."""
    world.rows("DELETE FROM job")
    world.rows("DELETE FROM socket_connection")

    tokens.refresh()

    assert (tokens.gitlab.calls, tokens.needed()) == (0, [])
    assert (tokens.account_queue().held_at, tokens.account_queue().renewed_at) == (None, None)
    world.rows("UPDATE account SET access_token_expires_at = NULL")
    crawler, (order,) = tokens.at_work()
    tokens.outlive()
    crawler.sends("token_refresh_request", order)
    tokens.refresh()
    assert tokens.gitlab.calls == 1
    assert tokens.works()


def test_an_account_that_needs_authorization_stays_blocked_without_waiting_jobs(
    world: World, tokens: Tokens
) -> None:
    """Its refresh token is known to be useless, so no further job has to find that out."""
    tokens.gitlab.revoke()
    tokens.refresh()
    world.deliver("jobs.cancel", account_id="acc")

    tokens.refresh()

    assert tokens.account_queue().held_reason == "authorization_needed"
    assert tokens.needed() == [("OAUTH2_REVOKED", "error")]


def test_the_gitlab_is_matched_whatever_the_spelling_of_its_url(world: World, tokens: Tokens) -> None:
    """Schemes and hosts are compared without regard to case."""
    world.rows("""UPDATE job SET "gitlabGraphQLUrl" = 'HTTP' || substr("gitlabGraphQLUrl", 5)""")

    tokens.refresh()

    assert tokens.gitlab.calls == 1
    assert tokens.statuses() == ["queued"]


def test_an_account_that_is_bound_to_no_gitlab_is_not_refreshed(world: World, tokens: Tokens) -> None:
    """Its refresh token is sent nowhere: the web app is asked for new tokens."""
    world.rows("DELETE FROM account_origin")

    tokens.refresh()

    assert tokens.gitlab.calls == 0
    assert tokens.needed() == [("OAUTH2_EXPIRED", "error")]


def test_a_refresh_waits_for_the_lock_of_the_account_queue(world: World, tokens: Tokens) -> None:
    """It reads the block under the lock, so an account that was just unblocked causes no call."""
    with world.unit() as uow:
        uow.account_queues.lock([AccountId("acc")])
        asking = world.in_thread(tokens.refresh)
        world.wait_for_lock_waiter()
        uow.account_queues.unblock(AccountId("acc"))
        uow.commit()
    asking.join()

    assert tokens.gitlab.calls == 0


def test_another_dead_token_report_causes_no_second_request(world: World, tokens: Tokens) -> None:
    """The account waits for a new authorization already."""
    tokens.refresh()
    world.jobs(1, gitlab_host=tokens.gitlab.url)
    world.crawler()
    world.assign()
    (crawler, first), (another, second) = world.rows(
        "SELECT connection_id, crawler_job_id FROM crawler_order ORDER BY crawler_job_id"
    )
    tokens.gitlab.revoke()
    Crawler(world, crawler).sends("token_refresh_request", first)
    tokens.refresh()

    Crawler(world, another).sends("token_refresh_request", second)
    tokens.refresh()

    assert tokens.gitlab.calls == 2
    assert tokens.needed() == [("OAUTH2_REVOKED", "error")]
    assert tokens.account_queue().held_reason == "authorization_needed"


def test_a_refresh_is_routed_to_the_upkeep_queue(world: World, broker: str) -> None:
    """Workers and producers agree on the route, so that assignment rounds do not wait for a GitLab."""
    producer = Producer(broker)
    for app in (world.app, producer._app):
        queues = [
            app.amqp.router.route({}, task)["queue"].name
            for task in ("credentials.refresh", "credentials.renewed")
        ]
        assert queues == ["upkeep", "dispatch"]
    producer.close()
