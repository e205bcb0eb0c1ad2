"""Scenarios of maintenance and of tokens."""

import json
from datetime import timedelta
from typing import Any

from persistence.schema.reasons import CredentialError
from proofs.crashes.scenario import USED, scenario
from support.worlds.ages import ended
from support.worlds.discoveries import Discoverer, project
from support.worlds.stages import at_every_stage
from support.worlds.world import World
from tasks.credentials.oauth import NotProcessed, Refused, Renewed
from tasks.credentials.token_info import TokenState

Payload = dict[str, Any]

ACCOUNT = {"account_id": "acc"}

OAUTH = {
    "CRAWLYARD_OAUTH_PROVIDERS": json.dumps(
        {"https://gitlab.example.org": {"client_id": "crawlyard", "client_secret": "of the test"}}
    )
}


def dead_token(world: World, jobs: int = 1) -> Payload:
    """Block an account whose token died."""
    world.rows(
        "UPDATE account SET refresh_token = 'the first', access_token_expires_at = now() + interval '2 hours'"
    )
    crawler, orders = world.crawler_with_jobs(jobs)
    world.rows("UPDATE account SET access_token_expires_at = now()")
    world.sends(*(crawler.frame("token_refresh_request", order) for order in orders))
    return dict(ACCOUNT)


def doubted_token(world: World) -> Payload:
    """Bring a token into doubt."""
    crawler, orders = world.crawler_with_jobs(2)
    world.sends(*(crawler.frame("token_refresh_request", order) for order in orders))
    return dict(ACCOUNT)


def telling(state: TokenState) -> dict[str, Any]:
    """Return constants with a GitLab that tells this about a token."""

    def tell(_origin: str, _token: str, *, is_oauth: bool) -> TokenState:
        assert not is_oauth
        return state

    return {"tasks.credentials.refresh.check_token": tell}


@scenario("credentials.refresh", constants=telling(TokenState.ALIVE))
def alive(world: World) -> Payload:
    """Check a token that works, so that its jobs are queued."""
    return doubted_token(world)


@scenario("credentials.refresh", constants=telling(TokenState.DEAD))
def dead(world: World) -> Payload:
    """Check a token that has died, so that its account is blocked."""
    return doubted_token(world)


@scenario("credentials.refresh", constants=telling(TokenState.UNKNOWN))
def untold(world: World) -> Payload:
    """Check a token of which its GitLab tells nothing."""
    return doubted_token(world)


def answering(answer: object) -> dict[str, Any]:
    """Return constants with a GitLab that gives this answer; other tests make real calls."""

    def ask(_instance: str, _provider: object, refresh_token: str) -> object:
        if not isinstance(answer, NotProcessed):
            USED.append(refresh_token)
        return answer

    return {"tasks.credentials.refresh.request_refresh": ask}


@scenario(
    "credentials.refresh",
    settings=OAUTH,
    constants=answering(Renewed("a second token", "a second refresh token", timedelta(hours=2))),
    is_doubtful=True,
)
def refreshed(world: World) -> Payload:
    """Refresh a token, so that its jobs are queued."""
    return dead_token(world, jobs=2)


@scenario(
    "credentials.refresh",
    settings=OAUTH,
    constants=answering(Refused(CredentialError.OAUTH2_REVOKED, "invalid_grant")),
    is_doubtful=True,
)
def refused(world: World) -> Payload:
    """Refresh a token that GitLab refuses."""
    return dead_token(world)


@scenario(
    "credentials.refresh",
    settings=OAUTH,
    constants=answering(NotProcessed(CredentialError.PROVIDER_ERROR, "HTTP 503")),
    is_doubtful=True,
)
def gitlab_unavailable(world: World) -> Payload:
    """Refresh a token while GitLab is unavailable."""
    return dead_token(world)


@scenario("credentials.refresh")
def refresh_without_a_provider(world: World) -> Payload:
    """Ask the web app if no provider is configured."""
    return dead_token(world)


@scenario("credentials.refresh")
def refresh_of_a_new_token(world: World) -> Payload:
    """Refresh a token that the web app has replaced meanwhile."""
    dead_token(world)
    world.rows("UPDATE account SET access_token = 'glpat-another0123456789ab'")
    return dict(ACCOUNT)


@scenario("credentials.renewed", constants={"tasks.credentials.renewed.CHUNK_JOBS": 2})
def renewed(world: World) -> Payload:
    """Renew the token of more jobs than one chunk."""
    dead_token(world, jobs=3)
    world.rows("UPDATE account SET access_token = 'glpat-another0123456789ab'")
    return dict(ACCOUNT)


@scenario("credentials.renewed")
def renewed_for_an_unknown_account(_: World) -> Payload:
    """Renew the token of an account that does not exist."""
    return {"account_id": "unknown"}


@scenario("upkeep.reconcile")
def status_of_the_web_app(world: World) -> Payload:
    """Reconcile jobs whose statuses the web app has changed, and a new one."""
    jobs = at_every_stage(world)
    statuses = {
        "pending": "cancelled",
        "assigned": "paused",
        "running": "finished",
        "paused": "queued",
        "failed": "queued",
        "credential expired": "credential_renewed",
    }
    for stage, status in statuses.items():
        world.rows("UPDATE job SET status = :status WHERE id = :id", status=status, id=jobs[stage])
    world.insert_job()
    return {}


@scenario("upkeep.reconcile", constants={"tasks.maintenance.reconcile.CHUNK_ROWS": 2}, is_piecemeal=True)
def many_out_of_sync(world: World) -> Payload:
    """Reconcile more new jobs than one chunk."""
    for _ in range(5):
        world.insert_job()
    return {}


@scenario("upkeep.reconcile", is_piecemeal=True)
def attempts_of_a_paused_account(world: World) -> Payload:
    """Reconcile an account whose pause was interrupted."""
    world.crawler_with_jobs(2)
    world.rows("UPDATE account_lane SET paused_at = now()")
    return {}


@scenario("upkeep.reconcile")
def forgotten_credentials(world: World) -> Payload:
    """Reconcile a blocked account whose refresh was lost."""
    dead_token(world)
    return {}


@scenario(
    "upkeep.clean_up",
    constants={"tasks.maintenance.cleanup.CHUNK_ROWS": 2, "tasks.maintenance.cleanup.CHUNK_EVENTS": 2},
    is_piecemeal=True,
)
def old_rows(world: World) -> Payload:
    """Delete old rows of several kinds, more than one chunk each."""
    ended(world, 5)
    ended(world, 1, "failed")
    crawler, _ = world.crawler_with_jobs(1)
    world.deliver("connections.disconnect", connection_id=crawler.id)
    world.sweep()
    world.rows("UPDATE handled_message SET handled_at = handled_at - interval '2 days'")
    world.rows("UPDATE dispatch_event SET created_at = created_at - interval '8 days'")
    world.rows("UPDATE socket_connection SET closed_at = closed_at - interval '8 days'")
    return {}


@scenario(
    "upkeep.feed_deferred",
    constants={"tasks.discovery.feed.CHUNK_JOBS": 2},
    settings={"CRAWLYARD_PENDING_CAP": "3"},
    is_piecemeal=True,
)
def room_again(world: World) -> Payload:
    """Queue more deferred jobs than one chunk, once there is room."""
    Discoverer.at_work(world).finds(project("a", 1), project("b", 2))
    world.rows("UPDATE job_queue SET status = 'completed', settled_at = now() WHERE status = 'pending'")
    world.rows(
        "UPDATE job SET status = 'finished', finished_at = now() WHERE command <> 'GROUP_PROJECT_DISCOVERY'"
    )
    return {}


@scenario("upkeep.take_statistics")
def counts(world: World) -> Payload:
    """Count jobs at every stage."""
    at_every_stage(world)
    return {}
