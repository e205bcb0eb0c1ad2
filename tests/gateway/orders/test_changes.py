"""Changes are read by the difference of two snapshots: each committed event once, whatever transactions do."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event

import psycopg

from persistence.orders.changes import Changes
from persistence.orders.session import OrderSession
from support.depth import deep

WRITERS = 6

_APPEND = "INSERT INTO dispatch_event (type, connection_id, payload) VALUES ('job_assigned', %s, %s)"


class Committed:
    """What one writer has committed."""

    def __init__(self, database: str, name: str, seed: int) -> None:
        self.names: list[str] = []
        self._database = database
        self._name = name
        self._random = Random(seed)
        self._count = 0

    def write(self, transactions: int) -> None:
        """Run transactions on two sessions: some roll back, some in part, some commit long after others."""
        with psycopg.connect(self._database) as one, psycopg.connect(self._database) as other:
            late: list[str] = []
            for _ in range(transactions):
                if not late:
                    late = self._append(other, 2)
                self._transact(one)
                if self._random.random() < 0.1:
                    other.commit()
                    self.names += late
                    late = []
            other.rollback()

    def _transact(self, session: psycopg.Connection) -> None:
        written = self._append(session, self._random.randrange(3))
        session.execute("SAVEPOINT here")
        within = self._append(session, self._random.randrange(3))
        if self._random.random() < 0.5:
            session.execute("ROLLBACK TO here")
            within = []
        else:
            session.execute("RELEASE here")
        if self._random.random() < 0.25:
            session.rollback()
            return
        session.commit()
        self.names += written + within

    def _append(self, session: psycopg.Connection, count: int) -> list[str]:
        names = [f"{self._name}-{self._count + n}" for n in range(count)]
        self._count += count
        for name in names:
            session.execute(_APPEND, ["c1", json.dumps({"crawler_job_id": name})])
        return names


async def _read_all(begun: Event, stop: Event) -> list[str]:
    """Read until *stop*, and once more."""
    session = OrderSession()
    changes, read = Changes(session), []
    await changes.read()
    begun.set()
    over = False
    while not over:
        over = stop.is_set()
        difference = await changes.read()
        assert difference.resync is None
        read += [change.payload["crawler_job_id"] for change in difference.changes]
    await session.close()
    return read


def test_no_committed_event_is_missed_or_read_twice(database: str) -> None:
    """Beside writers that roll back, use savepoints and commit late."""
    begun, stop = Event(), Event()
    writers = [Committed(database, f"w{n}", seed=n) for n in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS + 1) as threads:
        reader = threads.submit(lambda: asyncio.run(_read_all(begun, stop)))
        assert begun.wait(10)
        for writing in [threads.submit(writer.write, 1000 if deep() else 60) for writer in writers]:
            writing.result()
        stop.set()
        read = reader.result()

    committed = [name for writer in writers for name in writer.names]
    assert len(committed) > WRITERS * 60
    assert sorted(read) == sorted(committed)
