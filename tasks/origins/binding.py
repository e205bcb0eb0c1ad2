"""
To which GitLab an account belongs, decided once: when its first job is queued.

In this order: an operator (`crawlyard accounts bind`), the account's provider, the URL of its authorizationScope job,
and its first job: one whose GitLab is in CRAWLYARD_ALLOWED_ORIGINS, or while that is not set, the first https one.
"""

from collections.abc import Iterable

from persistence.origin import GITLAB_COM, is_confidential
from persistence.origins.configured import allowed_origins, oauth_providers
from persistence.origins.origins import AccountFacts
from persistence.schema.commands import Provider
from persistence.schema.gitlabs import gitlab_of
from persistence.schema.ids import AccountId
from persistence.schema.reasons import BoundBy
from persistence.unit_of_work import UnitOfWork

_JIRA = (Provider.JIRA_LOCAL, Provider.JIRA_CLOUD)


def bind_first(uow: UnitOfWork, asked: Iterable[tuple[AccountId, str | None]]) -> dict[AccountId, str]:
    """
    Return the origins of accounts, after binding those that have none, as far as that can be decided.

    *asked*: the accounts, each with the URL of a job of it; of several the first that may bind it does.
    """
    urls: dict[AccountId, list[str]] = {}
    for account_id, url in asked:
        urls.setdefault(account_id, []).extend([url] if url else [])
    bound = uow.origins.find(urls.keys())
    unbound = urls.keys() - bound.keys()
    if not unbound:
        return bound
    facts = uow.origins.facts(unbound)
    decided = {id_: found for id_, of in facts.items() if (found := origin_for(of, urls[id_]))}
    if not decided:
        return bound
    uow.origins.bind_first(decided)
    return bound | uow.origins.find(decided.keys())  # another transaction may have been faster


def origin_for(account: AccountFacts, urls: list[str]) -> tuple[str, BoundBy] | None:
    """Decide the origin of an account that has jobs with these URLs, and by what; None if nothing tells."""
    jobs = [origin for origin in map(gitlab_of, urls) if origin]
    if account.provider_id in _JIRA:
        return next(((job, BoundBy.FIRST_JOB) for job in jobs if _is_private(job)), None)
    if origin := _of_provider(account):
        return origin, BoundBy.PROVIDER
    if (scope := gitlab_of(account.scope_url or "")) and _is_private(scope):
        return scope, BoundBy.SCOPE_JOB
    if allowed := allowed_origins():
        return next(((job, BoundBy.ALLOWED_ORIGINS) for job in jobs if job in allowed), None)
    return next(((job, BoundBy.FIRST_JOB) for job in jobs if _is_private(job)), None)


def _of_provider(account: AccountFacts) -> str | None:
    """Return the only GitLab that the account's provider can mean; None if it is not known, or not the only one."""
    if account.provider_id == Provider.GITLAB_CLOUD:
        return GITLAB_COM
    configured = (oauth_providers().keys() | allowed_origins()) - {GITLAB_COM}
    # An account without a refresh token has an access token of its owner's own, of any GitLab.
    is_known = account.provider_id == Provider.GITLAB_ONPREM and account.has_refresh_token
    return next(iter(configured)) if is_known and len(configured) == 1 else None


def _is_private(origin: str) -> bool:
    return is_confidential(origin) or origin in allowed_origins()
