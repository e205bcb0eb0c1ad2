"""
What every session of ours reads and waits for, whatever the environment, the role and the database set as defaults.

Three places, because a PgBouncer in transaction mode passes each thing in another way:

- `CONNECT`: what libpq sends or does when it connects. A pooler passes client_encoding.
- `prepare`: what a pooler keeps for each of its clients. It is set once, after connecting.
- `limit_transaction`: what a pooler would leave in a session that it then gives to others. It is local to each
  transaction.

Isolation levels are part of BEGIN. search_path stays the operator's, who may keep the tables in any one schema: it is
the role's or the database's, unless DATABASE_URL names a schema. Then it is local to each transaction too.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, LiteralString

import psycopg
from sqlalchemy import Connection, text

from persistence.exceptions import UnsuitableDatabaseError
from persistence.settings import settings

ENCODING: Final = "UTF8"

CONNECT: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "client_encoding": ENCODING,
    "prepare_threshold": None,
    # A server that vanishes without closing the connection: an unanswered packet ends it after 15 s, and an idle
    # connection is probed. The pools that cannot kill a task have nothing else.
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""What each connection is opened with. It overrides the URL and libpq's environment variables."""

FORMATS: Final[Mapping[str, str]] = {
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}
"""How values are written and read. PgBouncer keeps these for each client, from its oldest versions on."""

_LIMIT_SESSION: Final = """
    SELECT set_config('statement_timeout', %(statement)s, %(local)s),
           set_config('lock_timeout', %(lock)s, %(local)s),
           set_config('idle_in_transaction_session_timeout', %(silence)s, %(local)s),
           set_config('IntervalStyle', 'postgres', %(local)s), set_config('array_nulls', 'on', %(local)s)
"""

_SET_FORMATS: Final = """
    -- A pooler ends idle sessions itself, and would give the setting to others. Its process ids are made up.
    SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS given(name, value)
    UNION ALL
    SELECT set_config('idle_session_timeout', '0', false) WHERE pg_backend_pid() = %s
"""

_LIMITS = """
    SELECT set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true),
           set_config('idle_in_transaction_session_timeout', :silence, true),
           set_config('IntervalStyle', 'postgres', true), set_config('array_nulls', 'on', true),
           CASE WHEN current_setting('transaction_timeout', true) <> '0'  -- PostgreSQL 17
                THEN set_config('transaction_timeout', '0', true) END
"""

_LIMIT = text(_LIMITS)

_LIMIT_IN_SCHEMA = text(_LIMITS + ", set_config('search_path', quote_ident(:schema), true)")

_ENTER_SCHEMA: Final = "SELECT set_config('search_path', quote_ident(%(schema)s), %(local)s)"

_READ_SETTINGS = text(
    "SELECT name, current_setting(name) FROM unnest(CAST(:names AS text[])) AS wanted(name)"
)

_READ_LOCK_LIMIT = text("SELECT CAST(current_setting('lock_timeout') AS interval) AS lock_timeout")

_PINNED = (
    *FORMATS,
    "IntervalStyle",
    "array_nulls",
    "client_encoding",
    "default_transaction_isolation",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
"""What a session of ours sets for itself, whatever its default is."""

_LIBPQ = ("PGCLIENTENCODING", "PGDATESTYLE", "PGTZ")
"""The environment variables of libpq's that set such a default."""

_READ_DEFAULTS = text("""
    SELECT split_part(setting, '=', 1) FROM pg_db_role_setting, unnest(setconfig) AS setting
     WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
       AND setrole IN (0, to_regrole(quote_ident(current_user)))
""")

_STATEMENT_LIMIT = "crawlyard_statement_limit"
_MILLISECOND = timedelta(milliseconds=1)


def prepare(connection: "psycopg.Connection[Any]") -> None:
    """
    Check the server's encoding, and set how values are written. Closes the connection if that fails.

    Raises UnsuitableDatabaseError, and the driver's errors.
    """
    try:
        require_encoding(connection.info.parameter_status("server_encoding"))
        was = connection.autocommit
        connection.autocommit = True
        connection.execute(*set_formats(connection.info.backend_pid))
        connection.autocommit = was
    except BaseException:
        with suppress(psycopg.Error):
            connection.close()
        raise


def require_encoding(encoding: str | None) -> None:
    """Check the server's encoding. Raises UnsuitableDatabaseError."""
    if encoding != ENCODING:
        raise UnsuitableDatabaseError(
            f"The database's encoding is {encoding}, and Crawlyard needs {ENCODING}: create a database with "
            f"ENCODING '{ENCODING}' and move the data there."
        )


def connect(url: str, **options: Any) -> "psycopg.Connection[Any]":
    """Open a connection of its own in autocommit mode. Raises what `prepare` raises."""
    connection = psycopg.connect(url, **{"autocommit": True, **CONNECT, **options})
    prepare(connection)
    return connection


def limit_session(connection: "psycopg.Connection[Any]") -> None:
    """Set our limits and formats for a session that no pooler shares, which then needs no transactions."""
    connection.execute(*set_limits(local=False))


def set_formats(process_id: int) -> tuple[LiteralString, list[Any]]:
    """Return the statement that sets how values are written, and its parameters, for drivers that wait otherwise."""
    return _SET_FORMATS, [list(FORMATS), list(FORMATS.values()), process_id]


def set_limits(*, local: bool) -> tuple[LiteralString, dict[str, Any]]:
    """The same for our limits, of the session or *local* to a transaction."""
    limits = {name: f"{limit / _MILLISECOND:.0f}ms" for name, limit in _limits().items()}
    return _LIMIT_SESSION, limits | {"local": local}


def enter_schema(*, local: bool) -> tuple[LiteralString, dict[str, Any]] | None:
    """The same for the schema that DATABASE_URL names; None if it names none."""
    schema = settings().database_schema
    return (_ENTER_SCHEMA, {"schema": schema, "local": local}) if schema else None


def statement_limit(limit: timedelta | None) -> dict[str, Any]:
    """Return the execution option that replaces statement_timeout in a connection's transactions; None: no limit."""
    return {_STATEMENT_LIMIT: limit or timedelta(0)}


def limit_transaction(connection: Connection) -> None:
    """Set the limits and formats of the transaction that begins; the engine calls this for each one."""
    limits = _limits()
    limits["statement"] = connection.get_execution_options().get(_STATEMENT_LIMIT, limits["statement"])
    values = {name: f"{limit / _MILLISECOND:.0f}ms" for name, limit in limits.items()}
    if schema := settings().database_schema:
        connection.execute(_LIMIT_IN_SCHEMA, values | {"schema": schema})
    else:
        connection.execute(_LIMIT, values)


@contextmanager
def in_schema(connection: "psycopg.Connection[Any]") -> Iterator[None]:
    """Look names up in the schema that DATABASE_URL names, on a connection that `connect` opened."""
    if not (entering := enter_schema(local=True)):
        yield
        return
    with connection.transaction():
        connection.execute(*entering)
        yield


def foreign_formats(connection: Connection) -> dict[str, str]:
    """Return what a transaction reads by that is not ours all the same, such as behind a pooler that drops it."""
    wanted = {**FORMATS, "IntervalStyle": "postgres", "client_encoding": ENCODING, "array_nulls": "on"}
    found = connection.execute(_READ_SETTINGS, {"names": list(wanted)}).all()
    limit, lock = connection.execute(_READ_LOCK_LIMIT).one(), _limits()["lock"]
    return {name: value for name, value in found if value != wanted[name]} | (
        {} if limit.lock_timeout == lock else {"lock_timeout": str(limit.lock_timeout)}
    )


def overridden_defaults(connection: Connection) -> list[str]:
    """Return the defaults of the database, our role and the environment that do not count."""
    found = {str(name).lower() for name in connection.scalars(_READ_DEFAULTS)}
    defaults = [name for name in _PINNED if name.lower() in found]
    return defaults + [name for name in _LIBPQ if os.environ.get(name)]


def _limits() -> dict[str, timedelta]:
    ours = settings()
    return {
        "statement": ours.statement_timeout,
        "lock": ours.lock_timeout,
        # A frozen or cut-off worker must release its locks before heartbeats that wait for them are missed.
        "silence": min(ours.statement_timeout, ours.outage_gap),
    }
