"""The product as the machine drives it: a real database, and tasks that run as in a worker."""

import json
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from proofs.model.clock import TICK_S
from proofs.model.machine.invariants import DatabaseState
from proofs.model.model import Message
from support.processes.workers import envelope, received_from
from support.worlds.world import World
from tasks.runtime.reading.body import Body
from tasks.runtime.rejection import keep
from tasks.worker import serialization
from tasks.worker.consumer import _rejected as rejected
from tasks.worker.consumer import admit
from tasks.worker.envelope import MalformedError, seal

_AGED = {
    "socket_connection": ("last_heartbeat", "reported_at", "goodbye_at", "lost_at"),
    "job_queue": ("scheduled_at", "settled_at", "kept_at"),
    "job_assignment_mapping": ("assigned_at", "progressed_at", "absent_since"),
    "account_lane": ("renewed_at", "claim_from"),
    "liveness_state": ("grace_until", "mass_waited_at"),
    "job": ("finished_at",),
}

_PERIODIC = ("upkeep.reconcile", "upkeep.clean_up")

_CONTINUED = (*_PERIODIC, "connections.expire_dead", "credentials.renewed")
"""Tasks that publish themselves to continue."""

_TABLES = """
    SELECT tablename FROM pg_tables
     WHERE schemaname = 'public' AND tablename NOT IN ('crawlyard_version', 'liveness_state', 'adoption', 'event_edge')
     ORDER BY tablename <> 'job', tablename IN ('account', 'area'), tablename = 'user'
"""
"""Tables in an order in which their rows can be deleted; deleting a job deletes what refers to it."""


class SystemUnderTest:
    """The database, and how to change it."""

    def __init__(self, world: World, database: psycopg.Connection) -> None:
        self._world = world
        self._database = database
        tables = [f'DELETE FROM "{table}"' for (table,) in database.execute(_TABLES)]
        # A tenth of what TRUNCATE costs on tables as small as these.
        self._empty = "; ".join(
            [*tables, "UPDATE liveness_state SET mass_waited_at = NULL, grace_until = NULL"]
        )

    def empty(self, accounts: list[str]) -> None:
        """Empty the database, but for these accounts; it was swept just now."""
        self._database.execute(self._empty)
        self.write("UPDATE liveness_state SET last_sweep_at = clock_timestamp(), mass_as_of = NULL")
        for account in accounts:
            self.write("INSERT INTO account (id, access_token) VALUES (%s, 'token-0')", account)

    def read_state(self) -> DatabaseState:
        """Return everything that is compared, of one snapshot."""
        return DatabaseState(self._database)

    def now(self) -> datetime:
        """The database's time."""
        (now,) = self._database.execute("SELECT clock_timestamp()", prepare=True).fetchone()
        return now

    def write(self, statement: str, *values: Any) -> None:
        """Write what the web app or the passing of time changes."""
        self._database.execute(statement, values)

    def age(self, ticks: int, *, swept: bool) -> None:
        """Make every row older; *swept*: except the time of the last sweep."""
        tables = _AGED if swept else _AGED | {"liveness_state": ("last_sweep_at", *_AGED["liveness_state"])}
        self._database.execute("; ".join(_older(table, columns, ticks) for table, columns in tables.items()))

    def shift(self, table: str, columns: tuple[str, ...], key: str, value: str, ticks: int) -> None:
        """Make one row older."""
        self.write(f"{_older(table, columns, ticks)} WHERE {key} = %s", value)

    def deliver(self, message: Message) -> None:
        """Run a task as the delivery of this message, and the messages by which it continues, unless it is refused."""
        if message.queue:
            self._refuse(message, message.queue)
            return
        if message.task in _PERIODIC:
            self.write("DELETE FROM periodic_ring")
        published = self._world.published.messages
        published.clear()
        # The model knows only tokens that are known to be dead once a crawler says so: they have expired.
        expires = message.task == "crawler.frames"
        if expires:
            self.write("UPDATE account SET access_token_expires_at = clock_timestamp() - interval '1 day'")
        self._run(message)
        if expires:
            self.write("UPDATE account SET access_token_expires_at = NULL")
        while message.task in _CONTINUED and (rest := self._world.published.of(message.task)):
            published.clear()
            for payload in rest:
                self._world.deliver(message.task, **payload)

    def _run(self, message: Message) -> None:
        """Run the task as a worker does: frames as the bytes that were sent, in which those too large are found."""
        if message.task != "crawler.frames":
            self._world.deliver(message.task, message.id, **message.payload)
            return
        body = Body(serialization.dumps([[], message.payload, {}]).encode())
        self._world.app.tasks[message.task].apply(args=(body,), task_id=message.id, throw=True)

    def _refuse(self, message: Message, queue: str) -> None:
        """Let a worker's consumer look at a message of another queue, which it does not pass on."""
        text = json.dumps(envelope(message.task, message.payload, headers={"id": message.id}))
        received = received_from(seal(text.encode(), queue))
        with pytest.raises(MalformedError) as refused:
            admit(received, self._world.app.tasks)
        keep(**vars(rejected(received, refused.value.reason, str(refused.value))))

    def as_of(self, ticks_ago: int) -> datetime:
        """Return the database's time some ticks ago; a negative number is in the future."""
        return self.now() - timedelta(seconds=ticks_ago * TICK_S)


def _older(table: str, columns: tuple[str, ...], ticks: int) -> str:
    """Return an UPDATE that makes rows older."""
    older = (f"{column} = {column} - interval '{ticks * TICK_S} seconds'" for column in columns)
    return f"UPDATE {table} SET {', '.join(older)}"
