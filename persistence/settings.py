"""
The one Settings object, read from the environment; both packages and the command use it.

Durations are seconds in the environment and `timedelta` here. A wrong setting is one
`SettingsError`, whose text names the variable and the remedy in one line.
"""

import json
import os
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from persistence.exceptions import SettingsError

PREFIX = "CRAWLYARD_"

_EXAMPLES = {
    "DATABASE_URL": "postgresql://user:password@localhost:5432/crawlyard",
    "BROKER_URL": "redis://localhost:6379/0",
}

_REFRESH_MARGIN = timedelta(seconds=10)

FILE_VARIABLES = (*_EXAMPLES, f"{PREFIX}DIRECT_DATABASE_URL", f"{PREFIX}OAUTH_PROVIDERS")
"""What may stand in a file, since it holds secrets."""

_ORM_ONLY_PARAMETERS = frozenset(
    {"schema", "connection_limit", "pool_timeout", "pgbouncer", "statement_cache_size", "socket_timeout"}
)
"""What Prisma, Drizzle and their like put into a database URL, and libpq refuses."""


def _seconds(value: Any) -> Any:
    """Read a number of seconds, as the environment gives it; the defaults are durations already."""
    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=float(value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be a number of seconds") from None


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be above 0 seconds")
    return value


Seconds = Annotated[timedelta, BeforeValidator(_seconds), AfterValidator(_positive)]


def _split_url(url: str) -> SplitResult:
    """The parts of a URL. Raises ValueError in our own words: the library's quote the URL, password and all."""
    try:
        parts = urlsplit(url)
        readable = (parts.port is None or parts.port > 0) and "@" not in parts.path + parts.fragment
    except ValueError:
        readable = False
    if not readable:
        raise ValueError("cannot be read as a URL; percent-encode special characters in its password")
    return parts


def _database_url(url: str) -> str:
    """
    The URL as SQLAlchemy wants it: psycopg's driver named, ORM-only parameters left out.

    Raises ValueError, without the URL in its text, which may hold a password.
    """
    parts = _split_url(url)
    if parts.scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ValueError("must begin with postgres://, postgresql:// or postgresql+psycopg://")
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query) if k not in _ORM_ONLY_PARAMETERS])
    # Not urlunsplit: where no host is named, as for a Unix socket, it leaves the two slashes out.
    return f"postgresql+psycopg://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")


def _without_driver(url: str) -> str:
    return url.replace("+psycopg", "", 1)


def _broker_url(url: str) -> str:
    """A Redis URL; other brokers lack what the queues rely on."""
    if ";" in url:
        # Celery would take it for several, and each of its processes would be at whichever it found first.
        raise ValueError("must name one server; in a password ; is written %3B")
    if _split_url(url).scheme not in ("redis", "rediss", "redis+socket"):
        raise ValueError("must begin with redis://, rediss:// or redis+socket://")
    return url


def _providers(given: Any) -> Any:
    """The providers as they are written: a JSON object. Raises ValueError without a word of it."""
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
    parts = _split_url(url)
    is_base = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    if not is_base or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must name each GitLab by scheme and host alone, such as https://gitlab.example.org")
    return f"{parts.scheme}://{parts.netloc.lower()}"


class OAuthProvider(BaseModel):
    """How Crawlyard itself is known to a GitLab: what it needs to refresh tokens there."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    client_id: str
    client_secret: SecretStr
    redirect_uri: str | None = None


def _secrets_in_files() -> dict[str, str]:
    """What stands in the files that the variables with _FILE name, by the variable it stands for."""
    paths = {name: os.environ.get(f"{name}_FILE") for name in FILE_VARIABLES}
    return {name: _content(f"{name}_FILE", path) for name, path in paths.items() if path}


def _content(variable: str, path: str) -> str:
    """A file's only line. Raises ValueError without the path, in whose place somebody may have put the URL."""
    try:
        content = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{variable} names a file that cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{variable} names a file that is no text") from None
    if not content:
        raise ValueError(f"{variable} names an empty file")
    return content


class Settings(BaseSettings):
    """
    Everything that can be set. The variable is the field's name in capitals, after CRAWLYARD_.

    DATABASE_URL_FILE, BROKER_URL_FILE and CRAWLYARD_OAUTH_PROVIDERS_FILE name files that hold the values,
    as secrets of containers do.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    database_url: Annotated[str, AfterValidator(_database_url)] = Field(validation_alias="DATABASE_URL")
    broker_url: Annotated[str, AfterValidator(_broker_url)] = Field(validation_alias="BROKER_URL")

    direct_database_url: Annotated[str, AfterValidator(_database_url)] | None = Field(
        None,
        description="the server itself, where DATABASE_URL leads to a pooler: who follows events listens there",
    )

    connection_timeout: Seconds = Field(
        timedelta(seconds=90), description="a connection silent for so long is dead"
    )
    heartbeat_interval: Seconds = Field(
        timedelta(seconds=30),
        description="how often crawlers are to beat; it tells our outage from their silence",
    )
    stall_timeout: Seconds = Field(
        timedelta(seconds=3600), description="a running job without progress for so long is taken back"
    )
    start_timeout: Seconds = Field(
        timedelta(seconds=300), description="an assigned job that nobody began for so long is taken back"
    )
    absence_grace: Seconds = Field(
        timedelta(seconds=60),
        description="a job missing from its crawler's own list for so long is taken back",
    )
    retry_delay: Seconds = Field(
        timedelta(seconds=5), description="wait before the first retry; doubled for each one after"
    )
    max_attempts: int = Field(
        3, ge=1, le=100, description="failures that a crawler may report before a job fails"
    )
    sweep_interval: Seconds = Field(
        timedelta(seconds=10), description="how often dead connections are looked for"
    )
    assign_interval: Seconds = Field(
        timedelta(seconds=5), description="how often beat rings for an assignment pass, rung or not"
    )
    reconcile_interval: Seconds = Field(
        timedelta(seconds=30), description="how often the web app's word is compared with ours"
    )
    clean_up_interval: Seconds = Field(timedelta(seconds=600), description="how often old rows are deleted")
    statistics_interval: Seconds = Field(
        timedelta(seconds=60), description="how often what is dear to count is counted"
    )
    database_wait: Seconds = Field(
        timedelta(seconds=60),
        description="a unit waits so long for a lost database, then requeues its message",
    )
    account_cap: int | None = Field(
        None, ge=1, description="live assignments an account may have (default: no cap)"
    )
    host_cap: int | None = Field(
        None, ge=1, description="live assignments a GitLab host may have (default: no cap)"
    )
    pending_cap: int | None = Field(
        None,
        ge=1,
        description="jobs of an account that may wait at once; what discoveries find beyond is deferred",
    )
    oauth_providers: Annotated[dict[str, OAuthProvider], NoDecode, BeforeValidator(_providers)] = Field(
        {}, description="by a GitLab's URL: how tokens are refreshed there (default: the web app is asked)"
    )
    token_margin: Seconds = Field(
        timedelta(seconds=300),
        description="nothing is assigned for an account whose token expires so soon: it is refreshed first",
    )
    http_timeout: Seconds = Field(
        timedelta(seconds=10), description="how long a GitLab may take to refresh a token"
    )
    rediscovery_interval: Seconds = Field(
        timedelta(hours=48), description="a discovery that finished so recently is not repeated unless forced"
    )
    statement_timeout: Seconds = Field(
        timedelta(seconds=30),
        description="a statement longer than this is ended; so is a transaction idle so long, or timeout - 2 intervals",
    )
    lock_timeout: Seconds = Field(
        timedelta(milliseconds=500),
        description="wait for a row lock; below the server's deadlock_timeout, so that we give way to the web app",
    )
    pool_size: int = Field(5, ge=1, le=100, description="database connections that one process may keep")
    migrate_on_start: bool = Field(
        default=False, description="1: a starting worker migrates the database first"
    )
    keep_jobs: Seconds = Field(
        timedelta(days=7),
        description="jobs that have ended are kept so long, with their entries and attempts",
    )
    keep_events: Seconds = Field(timedelta(days=7), description="events are kept so long")
    keep_connections: Seconds = Field(timedelta(days=7), description="closed connections are kept so long")
    keep_errors: Seconds = Field(
        timedelta(days=30),
        description="error rows, changes of areas and ended credential refreshes are kept so long",
    )
    keep_rejected: Seconds = Field(timedelta(days=30), description="rejected messages are kept so long")
    keep_handled: Seconds = Field(timedelta(days=1), description="ids of handled messages are kept so long")

    @property
    def psycopg_url(self) -> str:
        """The database's URL without SQLAlchemy's driver in it."""
        return _without_driver(self.database_url)

    @property
    def session_url(self) -> str:
        """As `psycopg_url`, for what needs a session of its own: past the pooler, where a way is known."""
        return _without_driver(self.direct_database_url or self.database_url)

    @property
    def heartbeat_resolution(self) -> timedelta:
        """Signs of life that are closer together are as one."""
        return self.connection_timeout / 100

    @property
    def longest_silence(self) -> timedelta:
        """Who was heard last so long ago, by what is noted, was silent for the timeout."""
        return self.connection_timeout + self.heartbeat_resolution

    @property
    def outage_gap(self) -> timedelta:
        """A gap between two sweeps above this is our own outage, and nobody's death."""
        return self.connection_timeout - 2 * self.heartbeat_interval

    @property
    def refresh_patience(self) -> timedelta:
        """So long nobody doubts that a token is being refreshed: connect, send and read, then write it."""
        return 3 * self.http_timeout + self.database_wait + _REFRESH_MARGIN

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        read = _secrets_in_files()
        fields = {
            name: name.removeprefix(PREFIX).lower() if name.startswith(PREFIX) else name for name in read
        }
        if both := sorted(name for name, field in fields.items() if field in given):
            raise ValueError(f"{both[0]} and {both[0]}_FILE are both set; keep one of them")
        return given | {fields[name]: value for name, value in read.items()}

    @model_validator(mode="after")
    def _check_outage_gap(self) -> Self:
        if self.outage_gap <= 2 * self.sweep_interval:
            raise ValueError(
                f"{PREFIX}CONNECTION_TIMEOUT must exceed twice {PREFIX}HEARTBEAT_INTERVAL plus twice "
                f"{PREFIX}SWEEP_INTERVAL, or every sweep would look like an outage"
            )
        return self


def read_settings() -> Settings:
    """
    Read and check the settings from the process's environment.

    Raises SettingsError with one line that names the variable and what it must be.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("; ".join(_describe_error(e) for e in error.errors())) from None


def _describe_error(error: ErrorDetails) -> str:
    """One setting's fault, by the variable's name and without its value, which may be a secret."""
    text = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return text
    name, *within = map(str, error["loc"])
    variable = name if name.isupper() else PREFIX + name.upper()
    if within:
        return f"{variable}: {' '.join(within)}: {text[:1].lower()}{text[1:]}"
    if error["type"] == "missing":
        text = "must be set, for example to " + _EXAMPLES[variable]
    return f"{variable} {text[:1].lower()}{text[1:]}"


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return read_settings()
