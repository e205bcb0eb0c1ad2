"""A large command runs in chunks, each a transaction; the last one marks the message as processed."""

from collections.abc import Callable

import pytest
from celery.exceptions import Reject
from ulid import ULID

from persistence.unit_of_work import UnitOfWork
from support.worlds.world import World
from tasks.runtime import chunks
from tasks.runtime.chunks import ChunkResult, run_in_chunks


@pytest.fixture
def message(monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of the current message, the same at each delivery."""
    id_ = str(ULID())
    monkeypatch.setattr(chunks, "message_id", lambda: id_)
    return id_


class Step:
    """A step of three places. It records where each unit began, and publishes a task in each."""

    def __init__(self, name: str, changed: Callable[[], int] = lambda: 1) -> None:
        self.name, self.changed, self.places = name, changed, list[str]()

    def __call__(self, uow: UnitOfWork, place: str) -> ChunkResult:
        """Run one unit."""
        self.places.append(place)
        uow.publish("jobs.assign", name=self.name, place=place)
        return ChunkResult(self.changed(), {"": "b", "b": "c"}.get(place))


def handled(world: World) -> list[str]:
    """The ids of the processed messages."""
    return [id_ for (id_,) in world.rows("SELECT message_id FROM handled_message")]


def test_steps_run_one_after_another_to_their_end(world: World, message: str) -> None:
    """Each unit begins where the previous one ended, and each step at the start; all are committed."""
    one, two = Step("one"), Step("two")

    run_in_chunks(one, two)

    assert (one.places, two.places) == (["", "b", "c"], ["", "b", "c"])
    assert [(b["name"], b["place"]) for b in world.published.of("jobs.assign")] == [
        (name, place) for name in ("one", "two") for place in ("", "b", "c")
    ]
    assert handled(world) == [message]


def test_passes_repeat_until_nothing_changes(world: World, message: str) -> None:
    """All steps are repeated, and the pass that changes nothing marks the message as processed."""
    changes = iter([1, 0, 0, 0, 1, 0, 1, 0, 0])
    one, two = Step("one", lambda: next(changes, 0)), Step("two", lambda: 0)

    run_in_chunks(one, two, max_passes=9)

    assert (one.places, two.places) == (["", "b", "c"] * 4, ["", "b", "c"] * 4)
    assert handled(world) == [message]


def test_the_number_of_passes_is_bounded(world: World, message: str) -> None:
    """The message is processed after max_passes, even if every pass changes something."""
    step = Step("one")

    run_in_chunks(step, max_passes=2)

    assert (step.places, handled(world)) == (["", "b", "c"] * 2, [message])


def test_a_possibly_last_pass_is_not_postponed(
    world: World, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the time limit ends a pass, the next pass still begins, since it may find that nothing is left."""
    monkeypatch.setattr(chunks, "TIME_LIMIT_S", 0)
    changes = iter([0, 0, 1])
    step = Step("one", lambda: next(changes, 0))

    run_in_chunks(step, max_passes=2)

    assert (step.places, handled(world)) == (["", "b", "c"] * 2, [message])


def test_a_redelivered_finished_command_runs_no_step(world: World, message: str) -> None:
    """A processed message changes nothing."""
    run_in_chunks(Step("one"))
    again = Step("again")

    run_in_chunks(again)

    assert again.places == []


def test_an_interruption_loses_only_the_current_chunk(world: World, message: str) -> None:
    """Committed units stay, the message is not marked as processed, and its next delivery starts again."""

    def dies() -> int:
        if len(step.places) == 2:
            raise RuntimeError("killed")
        return 1

    step = Step("one", dies)
    with pytest.raises(RuntimeError):
        run_in_chunks(step)

    assert ([b["place"] for b in world.published.of("jobs.assign")], handled(world)) == ([""], [])
    run_in_chunks(step)
    assert (step.places[2:], handled(world)) == (["", "b", "c"], [message])


def test_a_long_command_yields_after_its_time_limit(
    world: World, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is requeued after the unit that was running."""
    monkeypatch.setattr(chunks, "TIME_LIMIT_S", 0)
    step = Step("one")

    with pytest.raises(Reject) as raised:
        run_in_chunks(step)

    assert (raised.value.requeue, step.places, handled(world)) == (True, [""], [])


def test_a_command_never_yields_before_its_first_change(
    world: World, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery yields only after it has changed something, however long it skips finished work."""
    monkeypatch.setattr(chunks, "TIME_LIMIT_S", 0)
    nothing, step = Step("nothing", lambda: 0), Step("one")

    with pytest.raises(Reject):
        run_in_chunks(nothing, step)

    assert (nothing.places, step.places) == (["", "b", "c"], [""])


def test_a_message_processed_by_a_peer_meanwhile_is_skipped(world: World, message: str) -> None:
    """If two deliveries run at once, the last unit of the slower one is rolled back."""

    def is_overtaken() -> int:
        if len(step.places) == 3:
            world.rows("INSERT INTO handled_message (message_id) VALUES (:id)", id=message)
        return 1

    step = Step("one", is_overtaken)

    run_in_chunks(step)

    assert [b["place"] for b in world.published.of("jobs.assign")] == ["", "b"]
