"""The engine: one per process, made on first use and dropped in a forked child."""

from functools import cache
from threading import Lock
from typing import Any

from sqlalchemy import Engine, create_engine, event

from persistence.db import session
from persistence.db.foreign_values import read_json, register_time_loader
from persistence.db.text_arrays import register_text_array_dumper
from persistence.settings import settings

_RECYCLE_S = 1800
"""Connections are replaced at this age, so that a server behind a load balancer can be drained."""


_making = Lock()


def engine() -> Engine:
    """Return the process's engine; threads that first use it at the same time make only one."""
    with _making:
        return _engine()


@cache
def _engine() -> Engine:
    """
    The process's engine and its pool.

    It works through a PgBouncer in transaction mode: no statement is prepared on the server, and what sessions set
    either is local to a transaction or is kept by the pooler for each client (`session`). Every transaction has our
    limits. Errors never show parameters. Values that other programs wrote are always readable (`foreign_values`).
    """
    new_engine = create_engine(
        settings().engine_url,
        pool_size=settings().pool_size,
        max_overflow=0,
        pool_recycle=_RECYCLE_S,
        pool_use_lifo=True,
        hide_parameters=True,
        json_deserializer=read_json,
        # Part of BEGIN, which costs nothing.
        isolation_level="READ COMMITTED",
        connect_args={**session.CONNECT, "application_name": "crawlyard"},
    )
    event.listen(new_engine, "connect", _prepare)
    event.listen(new_engine, "begin", session.limit_transaction)
    return new_engine


def _prepare(connection: Any, _record: object) -> None:
    session.prepare(connection)
    register_time_loader(connection)
    register_text_array_dumper(connection)


def forget_connections() -> None:
    """Drop the parent's pool in a forked child, without closing connections that the parent still uses."""
    if is_made():
        _engine().dispose(close=False)


def is_made() -> bool:
    """Whether this process has an engine."""
    return bool(_engine.cache_info().currsize)


def forget() -> None:
    """Make the next engine from the settings of then. The caller disposes of this one."""
    _engine.cache_clear()
