"""A database for thousands of examples: each is rolled back, so that all start from the same state."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.db.engine import engine
from support.worlds.world import World
from tasks.worker import serialization

_KEEP_IDS = ("account", "job", "socket_connection", "user")

_COLUMNS = text("""
    SELECT table_name, array_agg(column_name::text) FILTER (
               WHERE data_type LIKE 'timestamp%' OR column_name IN ('xid', 'message_id')
                  OR column_name = 'id' AND NOT table_name = ANY (CAST(:keep AS text[]))) AS volatile
      FROM information_schema.columns WHERE table_schema = 'public' GROUP BY table_name ORDER BY table_name
""")

_IGNORED = ("rejected_message", "rejected_count", "handled_message", "crawlyard_version", "crawler_order")


def _rows_of(table: str, volatile: list[str]) -> str:
    row = f"(to_jsonb(r) - CAST(ARRAY{volatile} AS text[]))::text"
    return f"SELECT '{table}' AS name, {row} FROM \"{table}\" r"


class Sandbox:
    """One transaction in which every unit of work is a savepoint."""

    def __init__(self, world: World, connection: Connection) -> None:
        self._world = world
        self._connection = connection
        columns = connection.execute(_COLUMNS, {"keep": list(_KEEP_IDS)})
        tables = [_rows_of(name, volatile or []) for name, volatile in columns if name not in _IGNORED]
        self._rows = text(" UNION ALL ".join(tables))

    @contextmanager
    def example(self) -> Iterator[None]:
        """Roll back what happens inside."""
        with self._connection.begin_nested() as point:
            yield
            point.rollback()
        self._world.published.messages.clear()

    def deliver(self, task: str, payload: Any) -> None:
        """Run a task on a payload as decoded from a message. Raises what the task raises."""
        wire = serialization.loads(serialization.dumps(payload))
        self._world.app.tasks[task].apply(kwargs=wire, task_id=str(ULID()), throw=True)

    def rejected(self) -> list[Any]:
        """Return the rejected messages, in order."""
        return list(self._connection.execute(text("SELECT * FROM rejected_message ORDER BY id")))

    def rows(self, *ignored: str) -> list[tuple[str, str]]:
        """Return every row of every table, without times and generated ids, and without events of types *ignored*."""
        rows = [(name, row) for name, row in self._connection.execute(self._rows)]
        return sorted(row for row in rows if not any(f'"type": "{kind}"' in row[1] for kind in ignored))


@contextmanager
def sandbox_of(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Run every unit of work within one transaction, which is rolled back."""
    with engine().connect() as connection, connection.begin():
        joined: Callable[..., Session] = partial(Session, join_transaction_mode="create_savepoint")
        monkeypatch.setattr(
            "persistence.unit_of_work.Session", lambda _, **options: joined(connection, **options)
        )
        yield Sandbox(world, connection)
