"""Shows URLs and errors without the passwords in them."""

import os
import re
from contextlib import suppress
from urllib.parse import parse_qsl, unquote, urlsplit

from persistence.exceptions import CrawlyardError, DatabaseLost, SettingsError, cause_of
from persistence.settings import PREFIX, settings

MASK = "***"

_CREDENTIALS = re.compile(r"(?<=://)([^:@/]*):.*@")
"""Up to the last @, since a password may contain one: hiding too much is better than hiding too little."""

_SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:password|secret|token|key)[^=&]*=)[^&#]*", re.IGNORECASE)


def shown(url: str) -> str:
    """Return the URL without its password, and without the driver's name, as people write it."""
    url = url.replace("+psycopg", "", 1)
    return _SECRET_PARAMETER.sub(rf"\1{MASK}", _CREDENTIALS.sub(rf"\1:{MASK}@", url))


def reason(error: CrawlyardError) -> str:
    """Return the text of an error, with the driver's message, but without any password of the environment."""
    if not isinstance(error, DatabaseLost):
        return _scrubbed(str(error))
    return _scrubbed(f"The database cannot be used: {cause_of(error) or error}")


def _scrubbed(text: str) -> str:
    for secret in _secrets():
        text = text.replace(secret, MASK)
    return text


def _secrets() -> set[str]:
    """Return the passwords of the URLs, both percent-encoded and decoded."""
    found: set[str] = set()
    for url in _urls():
        credentials, at, _ = url.partition("://")[2].rpartition("@")
        if at:
            found.add(credentials.partition(":")[2])
        found.update(value for name, value in _parameters(url) if "password" in name.lower())
    return {form for secret in found for form in (secret, unquote(secret)) if form}


def _urls() -> list[str]:
    """Return the URLs that are set, in the environment or in the files that it names."""
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
