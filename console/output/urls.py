"""What may be shown of URLs and errors: everything but their passwords."""

import os
import re
from contextlib import suppress
from urllib.parse import parse_qsl, unquote, urlsplit

from persistence.exceptions import CrawlyardError, DatabaseLost, SettingsError
from persistence.settings import PREFIX, settings

MASK = "***"

_CREDENTIALS = re.compile(r"(?<=://)([^:@/]*):.*@")
"""To the last @, since a password may hold one: rather too much is hidden than too little."""

_SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:password|secret|token|key)[^=&]*=)[^&#]*", re.IGNORECASE)


def shown(url: str) -> str:
    """The URL as it may be seen by everybody, and as people write it: without the driver's name."""
    url = url.replace("+psycopg", "", 1)
    return _SECRET_PARAMETER.sub(rf"\1{MASK}", _CREDENTIALS.sub(rf"\1:{MASK}@", url))


def reason(error: CrawlyardError) -> str:
    """What an error says, and what its driver said, without a password of the environment."""
    cause = str(getattr(error.__cause__, "orig", "") or "").strip().partition("\n")[0]
    if not isinstance(error, DatabaseLost):
        return _scrubbed(str(error))
    return _scrubbed(f"The database cannot be used: {cause or error}")


def _scrubbed(text: str) -> str:
    for secret in _secrets():
        text = text.replace(secret, MASK)
    return text


def _secrets() -> set[str]:
    """The passwords of the URLs, as they are written and as they are meant."""
    found: set[str] = set()
    for url in _urls():
        credentials, at, _ = url.partition("://")[2].rpartition("@")
        if at:
            found.add(credentials.partition(":")[2])
        found.update(value for name, value in _parameters(url) if "password" in name.lower())
    return {form for secret in found for form in (secret, unquote(secret)) if form}


def _urls() -> list[str]:
    """The URLs, from the environment or from the files that it names; as far as there are any."""
    given = [
        os.environ.get(name, "") for name in ("DATABASE_URL", "BROKER_URL", f"{PREFIX}DIRECT_DATABASE_URL")
    ]
    with suppress(SettingsError):
        given += [settings().database_url, settings().broker_url, settings().direct_database_url or ""]
    return given


def _parameters(url: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(url).query)
    except ValueError:
        return []
