"""Large commands, unit by unit: each unit is a transaction, the last one claims the message."""

from collections.abc import Callable

import pytest
from celery.exceptions import Reject
from ulid import ULID

from persistence.unit_of_work import UnitOfWork
from support.worlds.world import World
from tasks.runtime import chunks
from tasks.runtime.chunks import Done, in_units


@pytest.fixture
def message(monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of the message in hand, at each delivery."""
    id_ = str(ULID())
    monkeypatch.setattr(chunks, "message_id", lambda: id_)
    return id_


class Step:
    """Three places to go to; it notes where it was asked to begin, and asks for a bell in each unit."""

    def __init__(self, name: str, changed: Callable[[], int] = lambda: 1) -> None:
        self.name, self.changed, self.places = name, changed, list[str]()

    def __call__(self, uow: UnitOfWork, place: str) -> Done:
        """Go on to the next place."""
        self.places.append(place)
        uow.ring("jobs.assign", name=self.name, place=place)
        return Done(self.changed(), {"": "b", "b": "c"}.get(place))


def handled(world: World) -> list[str]:
    """The messages that came to their end."""
    return [id_ for (id_,) in world.rows("SELECT message_id FROM handled_message")]


def test_steps_are_taken_one_after_another_to_their_ends(world: World, message: str) -> None:
    """Each unit begins where the one before has ended, each step at the start; all are committed."""
    one, two = Step("one"), Step("two")

    in_units(one, two)

    assert (one.places, two.places) == (["", "b", "c"], ["", "b", "c"])
    assert [(b["name"], b["place"]) for b in world.rung.of("jobs.assign")] == [
        (name, place) for name in ("one", "two") for place in ("", "b", "c")
    ]
    assert handled(world) == [message]


def test_all_is_looked_at_again_until_nothing_changes(world: World, message: str) -> None:
    """From the first step on, and the message is claimed by the look that found nothing."""
    changes = iter([1, 0, 0, 0, 1, 0, 1, 0, 0])
    one, two = Step("one", lambda: next(changes, 0)), Step("two", lambda: 0)

    in_units(one, two, looks=9)

    assert (one.places, two.places) == (["", "b", "c"] * 4, ["", "b", "c"] * 4)
    assert handled(world) == [message]


def test_it_is_looked_so_often_at_most(world: World, message: str) -> None:
    """Though there is always something: the message is handled all the same."""
    step = Step("one")

    in_units(step, looks=2)

    assert (step.places, handled(world)) == (["", "b", "c"] * 2, [message])


def test_a_look_that_may_be_the_last_is_not_put_off(
    world: World, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change that used up the time was the last one: the next look says so, and the message is handled."""
    monkeypatch.setattr(chunks, "BUSY_S", 0)
    changes = iter([0, 0, 1])
    step = Step("one", lambda: next(changes, 0))

    in_units(step, looks=2)

    assert (step.places, handled(world)) == (["", "b", "c"] * 2, [message])


def test_delivered_again_after_its_end_no_step_is_taken(world: World, message: str) -> None:
    """Not even the first."""
    in_units(Step("one"))
    again = Step("again")

    in_units(again)

    assert again.places == []


def test_an_interruption_costs_the_unit_at_work_alone(world: World, message: str) -> None:
    """What was committed before stays, and the message is not claimed: its next delivery begins again."""

    def dies() -> int:
        if len(step.places) == 2:
            raise RuntimeError("killed")
        return 1

    step = Step("one", dies)
    with pytest.raises(RuntimeError):
        in_units(step)

    assert ([b["place"] for b in world.rung.of("jobs.assign")], handled(world)) == ([""], [])
    in_units(step)
    assert (step.places[2:], handled(world)) == (["", "b", "c"], [message])


def test_after_half_a_minute_others_get_their_turn(
    world: World, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message goes back to its queue behind the unit that was at work then."""
    monkeypatch.setattr(chunks, "BUSY_S", 0)
    step = Step("one")

    with pytest.raises(Reject) as raised:
        in_units(step)

    assert (raised.value.requeue, step.places, handled(world)) == (True, [""], [])


def test_a_walk_to_what_is_left_is_never_cut_short(
    world: World, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to pass over what is done: a delivery ends only after it has changed something."""
    monkeypatch.setattr(chunks, "BUSY_S", 0)
    nothing, step = Step("nothing", lambda: 0), Step("one")

    with pytest.raises(Reject):
        in_units(nothing, step)

    assert (nothing.places, step.places) == (["", "b", "c"], [""])


def test_a_message_that_a_peer_brought_to_its_end_meanwhile_is_left(world: World, message: str) -> None:
    """Delivered twice at the same time, the slower one ends, and its last unit is rolled back."""

    def is_overtaken() -> int:
        if len(step.places) == 3:
            world.rows("INSERT INTO handled_message (message_id) VALUES (:id)", id=message)
        return 1

    step = Step("one", is_overtaken)

    in_units(step)

    assert [b["place"] for b in world.rung.of("jobs.assign")] == ["", "b"]
