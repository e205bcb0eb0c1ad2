"""
The types of the settings: how the text of an environment variable becomes a value.

Each raises ValueError with a text that does not repeat the value, which may hold a password.
"""

import json
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function
from pydantic_settings import NoDecode

from persistence.origin import origin_of

_ORM_ONLY_PARAMETERS = frozenset(
    {"connection_limit", "pool_timeout", "pgbouncer", "statement_cache_size", "socket_timeout"}
)
"""Parameters that Prisma, Drizzle and similar tools put into a database URL, and libpq refuses."""

_PORT = re.compile(r":[0-9]+$")

_SCHEMA: Final = "schema"
"""The one of them that we understand, as Prisma does: the schema in which the tables are."""


NEVER: Final = timedelta(days=36_500)
"""What `none` stands for: a century, with which the database and Python still compute. Nothing is older."""

_DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Bounds:
    """
    The bounds, in seconds, within which every unit works with a duration.

    Below the shortest it would be rounded to nothing, or keep a process busy; above the longest a statement, a timer
    or a server's setting fails with it. With *or_never* the text `none` stands for NEVER.
    """

    shortest: float
    longest: float
    or_never: bool = False

    def read(self, value: Any) -> timedelta:
        """Read a number of seconds from the environment; the defaults are durations already."""
        if isinstance(value, timedelta):
            return value
        if self.or_never and str(value).strip().lower() == "none":
            return NEVER
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"must be a number of seconds, {self}") from None
        if not self.shortest <= seconds <= self.longest:
            raise ValueError(f"must be a number of seconds, {self}")
        return timedelta(seconds=seconds)

    def __str__(self) -> str:
        """Write them as people read them: `from 0.001 to 3600`."""
        return f"from {self.shortest:.10g} to {self.longest:.10g}" + (", or none" if self.or_never else "")

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read each value within the bounds."""
        return no_info_before_validator_function(self.read, handler(timedelta))


def _split_url(url: str) -> SplitResult:
    """Split a URL. Raises ValueError with our own text: the library's would quote the URL and its password."""
    try:
        parts = urlsplit(url)
        readable = (parts.port is None or parts.port > 0) and "@" not in parts.path + parts.fragment
    except ValueError:
        readable = False
    if not readable:
        raise ValueError("cannot be read as a URL; percent-encode special characters in its password")
    return parts


def schema_of(url: str) -> str | None:
    """The schema that a database URL names."""
    return dict(parse_qsl(urlsplit(url).query)).get(_SCHEMA)


def without_schema(url: str) -> str:
    """The same URL as libpq takes it."""
    before, _, query = url.partition("?")
    rest = urlencode([(k, v) for k, v in parse_qsl(query) if k != _SCHEMA])
    return f"{before}?{rest}" if rest else before


def _database_url(url: str) -> str:
    """Return the URL as SQLAlchemy wants it, but for the schema: it names psycopg and has no parameters for ORMs."""
    parts = _split_url(_several_hosts(url))
    if parts.scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ValueError("must begin with postgres://, postgresql:// or postgresql+psycopg://")
    parameters = parse_qsl(parts.query)
    if len({value for name, value in parameters if name == _SCHEMA}) > 1:
        raise ValueError("must name one schema")
    query = urlencode([(k, v) for k, v in _one_host(parameters) if k not in _ORM_ONLY_PARAMETERS])
    # Not urlunsplit: it drops the two slashes of a URL without a host, as for a Unix socket.
    return f"postgresql+psycopg://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")


def _several_hosts(url: str) -> str:
    """Write `h1:5432,h2:5433`, which libpq alone reads in a URL, as its parameters, which SQLAlchemy reads, too."""
    scheme, slashes, rest = url.partition("://")
    netloc, slash, path = rest.partition("/")
    user, at, hosts = netloc.rpartition("@")
    if "," not in hosts or not slash:
        return url
    return f"{scheme}{slashes}{user}{at}/{path}{'&' if '?' in path else '?'}{urlencode(_hosts(hosts.split(',')))}"


def _one_host(parameters: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Write several `host=h1:5432`, which SQLAlchemy alone reads, as libpq does."""
    hosts = [value for name, value in parameters if name == "host"]
    if len(hosts) < 2:  # noqa: PLR2004 - several
        return parameters
    return [(name, value) for name, value in parameters if name != "host"] + _hosts(hosts)


def _hosts(places: list[str]) -> list[tuple[str, str]]:
    """The parameters of libpq's for these hosts, each with its port or without."""
    split = [place.rpartition(":") if _PORT.search(place) else (place, "", "5432") for place in places]
    return [
        ("host", ",".join(host.strip("[]") for host, _, _ in split)),
        ("port", ",".join(port for _, _, port in split)),
    ]


def _broker_url(url: str) -> str:
    """Accept Redis only; the queues rely on features that other brokers lack."""
    if ";" in url:
        # Celery would read a list of servers, and its processes could connect to different ones.
        raise ValueError("must name one server; in a password ; is written %3B")
    if _split_url(url).scheme not in ("redis", "rediss", "redis+socket"):
        raise ValueError("must begin with redis://, rediss:// or redis+socket://")
    return url


def _providers(given: Any) -> Any:
    """Read the JSON object of OAuth providers."""
    if not isinstance(given, str):
        return given
    try:
        providers = json.loads(given)
    except ValueError:
        providers = None
    if not isinstance(providers, dict) or not all(isinstance(p, dict) for p in providers.values()):
        raise ValueError('must be JSON: {"https://gitlab.example.org": {"client_id": …, "client_secret": …}}')
    return {_base_url(url): provider for url, provider in providers.items()}


def _base_url(url: str) -> str:
    origin = origin_of(url)
    if origin is None:
        raise ValueError(
            "must name each GitLab by scheme and host, with its path prefix if it has one, such as "
            "https://gitlab.example.org"
        )
    return origin


def _origins(given: Any) -> Any:
    """Read origins separated by commas."""
    if not isinstance(given, str):
        return given
    return frozenset(_base_url(url.strip()) for url in given.split(",") if url.strip())


class OAuthProvider(BaseModel):
    """Crawlyard's own OAuth client at a GitLab, with which it refreshes tokens there."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    client_id: str
    client_secret: SecretStr
    redirect_uri: str | None = None


Timeout = Annotated[timedelta, Bounds(0.1, 3600)]
"""How long a step may take; a unit's time limit adds several."""
LockWait = Annotated[timedelta, Bounds(0.001, 60)]
"""How long a row lock is waited for. PostgreSQL counts in milliseconds, and takes 0 for no limit."""
Period = Annotated[timedelta, Bounds(0.1, _DAY_S)]
"""How often something is done by a timer."""
Seconds = Annotated[timedelta, Bounds(0.001, 7 * _DAY_S)]
"""How long something else is waited for, at most a week."""
Age = Annotated[timedelta, Bounds(0.001, NEVER.total_seconds(), or_never=True)]
"""From which age something counts as over; none: never."""
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
Timestamps = Annotated[Literal["utc"], BeforeValidator(lambda given: str(given).strip().lower())]
Origins = Annotated[frozenset[str], NoDecode, BeforeValidator(_origins)]
OAuthProviders = Annotated[dict[str, OAuthProvider], NoDecode, BeforeValidator(_providers)]


def read_secret_files(variables: tuple[str, ...]) -> dict[str, str]:
    """Read the files that VARIABLE_FILE names for these variables; returns the contents by variable."""
    paths = {name: os.environ.get(f"{name}_FILE") for name in variables}
    return {name: _content(f"{name}_FILE", path) for name, path in paths.items() if path}


def _content(variable: str, path: str) -> str:
    """Read a file. Errors leave out the path: it may be the URL itself, set by mistake."""
    try:
        content = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{variable} names a file that cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{variable} names a file that is not text") from None
    if not content:
        raise ValueError(f"{variable} names an empty file")
    return content
