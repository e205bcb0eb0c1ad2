"""The GitLabs that the settings name, by where they are now: one that moved may still be set under its former name."""

from persistence.schema.gitlabs import gitlab_of
from persistence.setting_types import OAuthProvider
from persistence.settings import settings


def allowed_origins() -> frozenset[str]:
    """Return the origins to which a first job may bind its account; empty if the setting is."""
    return frozenset(gitlab_of(origin) or origin for origin in settings().allowed_origins)


def oauth_providers() -> dict[str, OAuthProvider]:
    """Return the OAuth providers by their origins; of two names of one GitLab, what is set under its present one."""
    found: dict[str, OAuthProvider] = {}
    for origin, provider in settings().oauth_providers.items():
        present = gitlab_of(origin) or origin
        if present == origin or present not in found:
            found[present] = provider
    return found
