"""Whatever is raised, and wherever: a message is handled, kept as rejected, requeued or run again, never gone."""

import errno
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import psycopg
import pytest
from celery.app import trace
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.db.engine import engine
from persistence.exceptions import ResourcesShort
from persistence.messages import rejected
from support.depth import deep
from support.worlds.deliveries import POOLS, Deliveries, Outcome
from support.worlds.world import World
from tasks.fleet import connections
from tasks.runtime import rejection, retry, stopping
from tasks.runtime import task as tasks
from tasks.runtime.reading.body import Body
from tasks.runtime.unit import unit_of_work

Raise = Callable[[], None]
Install = Callable[[pytest.MonkeyPatch, Raise], None]


def failure(name: str) -> OSError:
    """An error of the operating system, by its symbol."""
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


SHORTAGES = {name: failure(name) for name in ("EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "ENOBUFS")}
OUT_OF_MEMORY = {"MemoryError": MemoryError()}
LOST = {kind.__name__: kind("x") for kind in (psycopg.OperationalError, psycopg.InterfaceError)}
DEFECTS = {
    "EIO": failure("EIO"),
    "EACCES": failure("EACCES"),
    "ProgrammingError": psycopg.ProgrammingError("x"),
    "NotSupportedError": psycopg.NotSupportedError("x"),
    "DataError": psycopg.DataError("x"),
    "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
    **{kind.__name__: kind("x") for kind in (TypeError, AttributeError, AssertionError, RecursionError)},
}
EXITS = {"KeyboardInterrupt": KeyboardInterrupt(), "SystemExit": SystemExit(1)}
CURABLE = {**SHORTAGES, **OUT_OF_MEMORY, **LOST}
"""What time cures."""


def before(owner: Any, name: str) -> Install:
    """Raise before each call of a function."""

    def install(patch: pytest.MonkeyPatch, fail: Raise) -> None:
        original = getattr(owner, name)

        def failing(*args: Any, **kwargs: Any) -> Any:
            fail()
            return original(*args, **kwargs)

        patch.setattr(owner, name, failing)

    return install


def after_commit(patch: pytest.MonkeyPatch, fail: Raise) -> None:
    """Raise when the database has committed."""
    commit = Session.commit

    def committed(session: Session) -> None:
        commit(session)
        fail()

    patch.setattr(Session, "commit", committed)


def connecting(patch: pytest.MonkeyPatch, fail: Raise) -> None:
    """Raise while the driver connects; no connection is open yet."""
    before(psycopg, "connect")(patch, fail)
    engine().dispose()


def preparing_a_statement(patch: pytest.MonkeyPatch, fail: Raise) -> None:
    """Raise where SQLAlchemy wraps what is no error of the driver's."""
    before(engine().dialect.execution_ctx_cls, "create_cursor")(patch, fail)


def publishing(patch: pytest.MonkeyPatch, fail: Raise) -> None:
    """Raise when a message is published."""
    patch.setattr("tasks.runtime.unit.publish", lambda *_: fail())


DATABASE: dict[str, Install] = {
    "connecting": connecting,
    "preparing a statement": preparing_a_statement,
    "a statement": before(psycopg.Cursor, "execute"),
    "the commit": before(psycopg.Connection, "commit"),
    "after the commit": after_commit,
}
TASK: dict[str, Install] = {
    "reading": before(Body, "read"),
    "validation": before(tasks.UnitTask, "_read"),
    "our code": before(connections, "register_connection"),
}
KEEPING: dict[str, Install] = {"redaction": before(rejected, "storable"), **DATABASE}

Cases = dict[tuple[str, str, str], str]
"""How a message ends, by place, pool and fault."""


def cases(places: Collection[str], *kinds: Mapping[str, BaseException], pools: Collection[str] = ()) -> Cases:
    """
    Each kind of fault at each place: all faults of a kind in all *pools*.

    Without *pools*, and unless the tests are deep, every other fault of a kind, each in one pool.
    """
    every = deep() or bool(pools)
    found: Cases = {}
    for turn, place in enumerate(places):
        begin, step = (0, 1) if every else (turn % 2, 2)
        faults = [name for kind in kinds for name in list(kind)[begin::step] or kind]
        for number, name in enumerate(faults):
            chosen = (pools or POOLS) if every else [POOLS[number % len(POOLS)]]
            found |= {(place, pool, name): "" for pool in chosen}
    return found


class Path:
    """The path of messages, on which a fault can be put, with a clock that only waiting moves."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self._world = world
        self._deliveries = Deliveries(world.app, patch)
        self._now = 0.0
        self.waits: list[float] = []
        patch.setattr(stopping, "wait", self._wait)
        patch.setenv("CRAWLYARD_DATABASE_WAIT", "2")
        world.reload_settings()
        patch.setattr(retry, "monotonic", lambda: self._now)
        patch.setattr(rejection, "monotonic", lambda: self._now)
        patch.setattr(rejection, "get_event_loop", lambda: self)

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._now += seconds

    def call_later(self, seconds: float, function: Callable[..., None], *args: object) -> None:
        """As the loop of a worker's main process."""
        self._wait(seconds)
        function(*args)

    def deliver(self, pool: str, task: str) -> Outcome:
        """Deliver a message without arguments, with no fault."""
        return self._deliveries.deliver(pool, task, str(ULID()))

    def ends(
        self, places: Mapping[str, Install], given: Cases, times: int, *, valid: bool, retries: int = 0
    ) -> Cases:
        """Deliver a message for each case, while its fault is raised so many times; returns how each ends."""
        faults = CURABLE | DEFECTS | EXITS
        return {
            (place, pool, name): self._end(
                pool, places[place], faults[name], times, valid=valid, retries=retries
            )
            for place, pool, name in given
        }

    def _end(
        self, pool: str, install: Install, error: BaseException, times: int, *, valid: bool, retries: int
    ) -> str:
        left = times

        def fail() -> None:
            nonlocal left
            if left:
                left -= 1
                raise error.with_traceback(None)

        message = str(ULID())
        payload = {"connection_id": message} | ({} if valid else {"surprise": 1})
        self.waits.clear()
        with pytest.MonkeyPatch.context() as patch:
            install(patch, fail)
            outcome = self._deliveries.deliver(
                pool, "connections.register", message, retries=retries, **payload
            )
        assert left < times, "nothing was raised"
        if outcome.name == "requeued":
            assert sum(self.waits) > 0.5, "it was requeued at once"
        return self._fate(message) if outcome.name == "acknowledged" else outcome.name

    def _fate(self, message: str) -> str:
        """Where an acknowledged message is."""
        handled = self._world.rows("SELECT FROM socket_connection WHERE id = :id", id=message)
        kept = self._world.rows("SELECT FROM rejected_message WHERE message_id = :id", id=message)
        return {(1, 0): "handled", (0, 1): "kept", (0, 0): "gone"}.get((len(handled), len(kept)), "twice")


@pytest.fixture
def path(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a message."""
    return Path(world, monkeypatch)


FOREVER = 10_000


def test_a_unit_waits_for_what_time_cures(path: Path) -> None:
    """Out of descriptors, out of memory, a database away: it is run again after pauses, and is handled once."""
    places = {"our code": TASK["our code"], **DATABASE}
    given = cases(places, CURABLE)

    assert path.ends(places, given, 2, valid=True) == dict.fromkeys(given, "handled")


def test_keeping_waits_for_what_time_cures(path: Path) -> None:
    """A message that no task can process is kept once."""
    given = cases(KEEPING, CURABLE)

    assert path.ends(KEEPING, given, 2, valid=False) == dict.fromkeys(given, "kept")


def test_a_shortage_that_lasts_requeues_the_message(path: Path) -> None:
    """It is not rejected: others would be too, until the shortage ends."""
    places = {"our code": TASK["our code"], **DATABASE}
    given = cases(places, SHORTAGES, LOST)

    assert path.ends(places, given, FOREVER, valid=True) == dict.fromkeys(given, "requeued")


def test_a_defect_keeps_the_message(path: Path) -> None:
    """Whatever our own code, the driver or the operating system raises, and wherever a task is."""
    given = cases(TASK, DEFECTS)

    assert path.ends(TASK, given, FOREVER, valid=True) == dict.fromkeys(given, "kept")


def test_a_message_that_cannot_be_kept_is_requeued(path: Path) -> None:
    """Whatever keeps it from being kept; it is never acknowledged."""
    given = cases(KEEPING, SHORTAGES, LOST, DEFECTS)
    expected = dict.fromkeys(given, "requeued")
    # It is kept already: the next attempt finds that.
    expected |= {case: "kept" for case in given if case[0] == "after the commit" and case[2] in CURABLE}

    assert path.ends(KEEPING, given, FOREVER, valid=False) == expected


def test_an_exit_or_a_lack_of_memory_runs_the_message_again(path: Path) -> None:
    """In each pool: the worker counts it, as it counts a child that was killed."""
    places = TASK | KEEPING
    given = cases(TASK, OUT_OF_MEMORY, EXITS, pools=POOLS)
    assert path.ends(places, given, FOREVER, valid=True) == dict.fromkeys(given, "run again")

    given = cases(["redaction", "a statement"], OUT_OF_MEMORY, EXITS, pools=POOLS)
    assert path.ends(places, given, FOREVER, valid=False) == dict.fromkeys(given, "run again")


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
def test_a_fault_around_the_task_runs_the_message_again(path: Path) -> None:
    """Celery acknowledges a message when its own code fails before the task runs, or when the task raises."""
    places = {
        "before the task": before(trace, "get_actual_ignore_result"),
        "outside our nets": before(tasks.MessageTask, "__call__"),
    }
    given = cases(places, SHORTAGES, DEFECTS)

    assert path.ends(places, given, FOREVER, valid=True) == dict.fromkeys(given, "run again")


def test_a_message_for_a_task_of_celerys_own_is_kept(path: Path, world: World) -> None:
    """Such tasks have no payload of ours, and do nothing here."""
    for pool in POOLS:
        assert path.deliver(pool, "celery.backend_cleanup").name == "acknowledged"

    assert world.rejections() == [("celery.backend_cleanup", "failed")] * 2


def test_the_last_attempt_keeps_the_message_or_requeues_it(path: Path) -> None:
    """The worker keeps what was run again too often, and waits for what keeps it from that."""
    last = tasks.MessageTask.max_retries
    given = cases(TASK, OUT_OF_MEMORY, EXITS)
    assert path.ends(TASK, given, FOREVER, valid=True, retries=last) == dict.fromkeys(given, "kept")

    given = cases(["redaction", "a statement"], OUT_OF_MEMORY)
    assert path.ends(KEEPING, given, FOREVER, valid=False, retries=last) == dict.fromkeys(given, "requeued")


def test_a_failed_publish_after_the_commit_changes_nothing(path: Path) -> None:
    """The periodic tasks find the rows."""
    places = {"publishing": publishing}
    given = cases(places, CURABLE, DEFECTS)

    assert path.ends(places, given, FOREVER, valid=True) == dict.fromkeys(given, "handled")


def test_the_log_says_rejected_only_of_what_is_kept(
    path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator who reads `message_rejected` finds the message."""
    kept_when_logged = []

    class Log:
        def warning(self, event: str, **_: object) -> None:
            if event == "message_rejected":
                kept_when_logged.append(world.scalar("SELECT count(*) FROM rejected_message"))

        error = exception = warning

    for module in (tasks, rejection):
        monkeypatch.setattr(module, "log", Log())

    path.ends(KEEPING, cases(["redaction"], {"TypeError": TypeError()}, pools=POOLS), FOREVER, valid=False)
    path.ends(TASK, cases(["our code"], OUT_OF_MEMORY, EXITS), FOREVER, valid=True)
    assert kept_when_logged == []

    shortage = {"EMFILE": SHORTAGES["EMFILE"]}
    path.ends(KEEPING, cases(["redaction"], shortage, pools=POOLS), 1, valid=False)
    path.ends(TASK, cases(["our code"], EXITS, pools=POOLS[:1]), FOREVER, valid=True, retries=3)
    assert kept_when_logged == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [failure("EMFILE"), failure("EIO"), MemoryError()], ids=repr)
def test_a_connection_with_an_unread_answer_is_not_used_again(error: Exception, world: World) -> None:
    """What the operating system refuses may be refused between a statement and its answer."""
    backends = []

    def unit(raised: Exception | None) -> None:
        with unit_of_work() as uow:
            driver = uow.accounts._session.connection().connection.driver_connection
            backends.append(driver.info.backend_pid)
            if raised:
                raise raised

    with pytest.raises((ResourcesShort, type(error))):
        unit(error)
    unit(None)

    assert len(set(backends)) == 2
