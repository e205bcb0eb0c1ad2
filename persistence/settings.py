"""
The settings of Crawlyard, read from the environment; docs/settings.md is made from them.

Durations are seconds in the environment and `timedelta` here.
"""

from datetime import timedelta
from functools import cache, cached_property
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsConfigDict

from persistence.environment import read_texts
from persistence.exceptions import SettingsError
from persistence.gateway_settings import GatewaySettings
from persistence.setting_types import (
    Age,
    BrokerUrl,
    DatabaseUrl,
    LockWait,
    OAuthProviders,
    Origins,
    Period,
    Seconds,
    Timeout,
    Timestamps,
    read_secret_files,
    schema_of,
    without_schema,
)

PREFIX = "CRAWLYARD_"

_EXAMPLES = {
    "DATABASE_URL": "postgresql://user:password@localhost:5432/crawlyard",
    "BROKER_URL": "redis://localhost:6379/0",
}

_MAX_CAP = 1_000_000
"""PostgreSQL counts in integers of 32 bits, and multiplies some."""

_REFRESH_MARGIN = timedelta(seconds=10)

FILE_VARIABLES = (*_EXAMPLES, f"{PREFIX}DIRECT_DATABASE_URL", f"{PREFIX}OAUTH_PROVIDERS")
"""The settings that hold secrets. VARIABLE_FILE may name a file that holds the value instead."""


class Settings(GatewaySettings):
    """All settings. A field's variable is its name in capitals after CRAWLYARD_, but for the two URLs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    database_url: DatabaseUrl = Field(
        validation_alias="DATABASE_URL",
        description="the PostgreSQL database (postgres://, postgresql:// or postgresql+psycopg://); "
        "`?schema=app` means this search_path; other parameters that only ORMs understand are dropped",
    )
    broker_url: BrokerUrl = Field(
        validation_alias="BROKER_URL",
        description="the Redis or Valkey server (redis://, rediss:// or redis+socket://)",
    )
    queue_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.:-]{0,64}$",
        description="begins every key and channel on the broker: queues, unacked messages, remote control. Deployments "
        "that share a database of one server need different ones",
    )
    deployment: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.:-]{0,64}$",
        description="our name in the header `deployment` of messages; a message with another name is rejected",
    )
    direct_database_url: DatabaseUrl | None = Field(
        None,
        description="the PostgreSQL server itself, if DATABASE_URL leads to a pooler: event subscribers listen there",
    )

    timestamps: Timestamps | None = Field(
        None,
        description="utc: what the web app writes into its timestamp columns without time zone is UTC "
        "(none: such columns are refused)",
    )

    connection_timeout: Seconds = Field(
        timedelta(seconds=90), description="a connection without a sign of life for this long is dead"
    )
    resume_window: Seconds = Field(
        timedelta(seconds=15),
        description="a crawler whose link was lost is dead unless it has another after this time",
    )
    heartbeat_interval: Seconds = Field(
        timedelta(seconds=30),
        description="how often the gateway sends heartbeats; it tells our own outage from a crawler's silence",
    )
    stall_timeout: Age = Field(
        timedelta(seconds=3600),
        description="a running job whose progress does not advance for this long is requeued",
    )
    start_timeout: Age = Field(
        timedelta(seconds=300),
        description="an assigned job that its crawler does not start for this long is requeued",
    )
    max_attempt_age: Age = Field(
        timedelta(days=7), description="an attempt that is older than this ends, and its job is requeued"
    )
    max_capacity: int = Field(
        100,
        ge=1,
        le=1000,
        description="the most jobs at once of one connection, whatever its crawler asks for",
    )
    max_end_rate: float = Field(
        20,
        gt=0,
        le=1_000_000,
        description="a connection that ends more attempts a second than this, over ten seconds and beyond its "
        "capacity, is reported",
    )
    absence_grace: Age = Field(
        timedelta(seconds=60),
        description="a job missing from its crawler's own list of jobs for this long is requeued",
    )
    retry_delay: Seconds = Field(
        timedelta(seconds=5),
        description="wait before a failed job is retried; doubled for each further failure",
    )
    max_attempts: int = Field(
        3, ge=1, le=100, description="failures that crawlers may report before the job fails for good"
    )
    account_cap: int | None = Field(
        None, ge=1, le=_MAX_CAP, description="live assignments that an account may have (none: no cap)"
    )
    host_cap: int | None = Field(
        None, ge=1, le=_MAX_CAP, description="live assignments that a GitLab host may have (none: no cap)"
    )
    pending_cap: int | None = Field(
        None,
        ge=1,
        le=_MAX_CAP,
        description="entries of an account that may wait at once; discovered jobs above it are deferred "
        "(none: CRAWLYARD_MAX_WAITING)",
    )
    max_waiting: int = Field(
        100_000,
        ge=1,
        description="entries of an account that may wait at once where CRAWLYARD_PENDING_CAP is not set; "
        "discovered jobs above it are deferred, but for what is discovered at the same moment",
    )
    max_frame_jobs: int = Field(
        10_000,
        ge=1,
        description="jobs that one discovery frame creates; the others that it finds are deferred",
    )
    max_areas: int = Field(
        5_000_000,
        ge=1,
        description="areas that there may be in all; those that are discovered beyond it are refused",
    )
    max_areas_per_account: int = Field(
        200_000,
        ge=1,
        description="areas that an account may be authorized for; those that are discovered beyond it are refused",
    )
    max_deferred: int = Field(
        100_000,
        ge=0,
        description="deferred jobs that an account may have; jobs discovered beyond it are not created, but counted",
    )
    rediscovery_interval: Age = Field(
        timedelta(hours=48),
        description="a discovery that finished within this time is not repeated unless forced",
    )

    oauth_providers: OAuthProviders = Field(
        {},
        description='JSON: {"https://gitlab.example.org": {"client_id": …, "client_secret": …, '
        '"redirect_uri": … if needed}}; tokens of other GitLabs are refreshed by the web app',
    )
    allowed_origins: Origins = Field(
        frozenset(),
        description="the GitLabs, separated by commas, to which the first job of an account may bind it, such as "
        "https://gitlab.example.org; http:// must be written (none: the first https one binds it)",
    )
    token_margin: Timeout = Field(
        timedelta(seconds=300),
        description="no job is assigned for an account whose token expires within this time: it is refreshed first",
    )
    token_doubt: Seconds = Field(
        timedelta(minutes=15),
        description="a job waits this long if its crawler alone says that the account's token has died; if three "
        "jobs say so, the account is blocked for this long",
    )
    max_token_doubts: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="accounts whose tokens a connection may bring into doubt in an hour; beyond it, what it says "
        "about a token is a failure of the job",
    )
    http_timeout: Timeout = Field(
        timedelta(seconds=10),
        description="timeout of each step (connect, send, read) of a call to a GitLab that checks or refreshes a "
        "token",
    )

    sweep_interval: Period = Field(
        timedelta(seconds=10), description="how often beat publishes the sweep for dead connections"
    )
    assign_interval: Period = Field(
        timedelta(seconds=5),
        description="how often beat publishes an assignment round, in addition to wake-ups",
    )
    reconcile_interval: Period = Field(
        timedelta(seconds=30),
        description="how often jobs are compared with the status that the web app wrote",
    )
    clean_up_interval: Period = Field(timedelta(seconds=600), description="how often old rows are deleted")
    statistics_interval: Period = Field(
        timedelta(seconds=60), description="how often the figures that are expensive to count are counted"
    )

    database_wait: Seconds = Field(
        timedelta(seconds=60),
        description="a task waits this long for a lost database; then its message is requeued",
    )
    statement_timeout: Timeout = Field(
        timedelta(seconds=30),
        description="a longer statement is cancelled; a transaction idle for this long, or for the connection "
        "timeout minus 2 heartbeat intervals if that is less, is ended",
    )
    lock_timeout: LockWait = Field(
        timedelta(milliseconds=500),
        description="wait for a row lock; keep it below the server's deadlock_timeout, so that we give way to "
        "the web app",
    )
    pool_size: int = Field(5, ge=1, le=100, description="database connections per process")
    migrate_on_start: bool = Field(
        default=False, description="1: a worker migrates the database when it starts"
    )

    keep_jobs: Age = Field(
        timedelta(days=7), description="ended jobs, with their entries and attempts, are kept this long"
    )
    keep_events: Age = Field(timedelta(days=7), description="events are kept this long")
    keep_connections: Age = Field(timedelta(days=7), description="closed connections are kept this long")
    keep_errors: Age = Field(
        timedelta(days=30),
        description="rows of the error log, area changes and ended token refreshes are kept this long",
    )
    keep_rejected: Age = Field(timedelta(days=30), description="rejected messages are kept this long")
    token_prefixes: str = Field(
        "",
        pattern=r"^([A-Za-z0-9_.-]{3,32}(,[A-Za-z0-9_.-]{3,32}){0,19})?$",
        description="prefixes that GitLab's administrators chose for tokens instead of glpat-, separated by commas; "
        "what begins with one is redacted",
    )
    max_events: int = Field(
        100_000_000,
        ge=1000,
        description="events that are kept at most; a reader that is further behind gets a gap",
    )
    max_errors: int = Field(
        1_000_000,
        ge=1,
        description="rows of the error log that are kept at most; beyond it the oldest are deleted",
    )
    max_area_changes: int = Field(
        100_000,
        ge=1,
        description="changes of areas, made or proposed, that are kept at most; beyond it the oldest are deleted",
    )
    max_connections: int = Field(
        20_000,
        ge=1,
        description="connections that are open at once; beyond it a new one is refused",
    )
    max_closed_connections: int = Field(
        200_000,
        ge=1,
        description="closed connections that are kept at most; beyond it the oldest are deleted",
    )
    max_rejected: int = Field(
        200_000,
        ge=2,
        description="rejected messages that are kept in all, at most half of them of crawlers' connections; more are "
        "only counted",
    )
    max_rejected_bytes: int = Field(
        1024**3, ge=2, description="the same for the bytes of their payloads; beyond it rows have no payload"
    )
    max_rejected_per_connection: int = Field(
        1000, ge=1, description="rejected items that are kept of one connection; more are only counted"
    )
    max_rejected_bytes_per_connection: int = Field(
        16 * 1024**2,
        ge=0,
        description="the same for the bytes of their payloads; beyond it rows have no payload",
    )
    keep_handled: Age = Field(timedelta(days=1), description="ids of processed messages are kept this long")
    max_handled: int = Field(
        10_000_000,
        ge=1,
        description="ids of processed messages that are kept at most; beyond it the oldest are deleted, but for those "
        "of the last hour",
    )

    @cached_property
    def database_schema(self) -> str | None:
        """The schema that DATABASE_URL names; None: search_path is the database's, the role's or the URL's."""
        return schema_of(self.database_url)

    @property
    def engine_url(self) -> str:
        """The database's URL as SQLAlchemy takes it."""
        return without_schema(self.database_url)

    @property
    def psycopg_url(self) -> str:
        """The database's URL as psycopg takes it, without SQLAlchemy's driver."""
        return _without_driver(self.database_url)

    @property
    def session_url(self) -> str:
        """The URL for connections that need a session of their own: past the pooler if a direct URL is set."""
        return _without_driver(self.direct_database_url or self.database_url)

    @property
    def heartbeat_resolution(self) -> timedelta:
        """Heartbeats of one connection that are closer together than this are written once."""
        return self.connection_timeout / 100

    @property
    def longest_silence(self) -> timedelta:
        """A connection whose recorded last_heartbeat is this old has been silent for the whole timeout."""
        return self.connection_timeout + self.heartbeat_resolution

    @property
    def outage_gap(self) -> timedelta:
        """A longer gap between two sweeps is our own outage; it proves no crawler dead."""
        return self.connection_timeout - 2 * self.heartbeat_interval

    @property
    def refresh_patience(self) -> timedelta:
        """A token refresh that takes longer is lost. It covers connect, send, read and the write that follows."""
        return 3 * self.http_timeout + self.database_wait + _REFRESH_MARGIN

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        read = read_secret_files(FILE_VARIABLES)
        fields = {
            name: name.removeprefix(PREFIX).lower() if name.startswith(PREFIX) else name for name in read
        }
        if both := sorted(name for name, field in fields.items() if field in given):
            raise ValueError(f"{both[0]} and {both[0]}_FILE are both set; keep one of them")
        return read_texts(given | {fields[name]: value for name, value in read.items()})

    @model_validator(mode="after")
    def _check_outage_gap(self) -> Self:
        if self.outage_gap <= 2 * self.sweep_interval:
            raise ValueError(
                f"{PREFIX}CONNECTION_TIMEOUT must exceed twice {PREFIX}HEARTBEAT_INTERVAL plus twice "
                f"{PREFIX}SWEEP_INTERVAL, or every sweep would look like an outage"
            )
        return self

    @model_validator(mode="after")
    def _check_schema(self) -> Self:
        direct = schema_of(self.direct_database_url or "")
        if direct not in (None, self.database_schema):
            raise ValueError(f"{PREFIX}DIRECT_DATABASE_URL names another schema than DATABASE_URL")
        return self


def _without_driver(url: str) -> str:
    return without_schema(url).replace("+psycopg", "", 1)


def variable_of(field: str) -> str:
    """The environment variable of a field of Settings."""
    return str(Settings.model_fields[field].validation_alias or PREFIX + field.upper())


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return read_settings()


def read_settings() -> Settings:
    """
    Read and check the settings from the process's environment.

    Raises SettingsError, whose one line names each wrong variable and what it must be.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("; ".join(_describe_error(e) for e in error.errors())) from None


def _describe_error(error: ErrorDetails) -> str:
    """Describe one wrong setting by its variable, without the value, which may be a secret."""
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
