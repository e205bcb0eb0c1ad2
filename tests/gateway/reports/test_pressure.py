"""What is held is bounded, and nothing that matters is lost where more comes in than workers take."""

from typing import Any

import pytest

from gateway.reports import reports as module
from support.gateway.reports import Bench, items


@pytest.fixture
def bench() -> Bench:
    """Reports whose messages a test publishes and handles by hand."""
    return Bench()


def test_a_link_that_says_too_much_stops_until_half_of_it_is_handled(bench: Bench) -> None:
    """Others go on; what it has said is kept."""
    rooms = [bench.say("C", "job_started", "a") for _ in range(module.MAX_LINK_FRAMES + 1)]
    assert rooms == [True] * module.MAX_LINK_FRAMES + [False]
    assert bench.say("D", "job_progress", "b")

    rooms = []
    for message in bench.publish()[:3]:
        rooms.append(list(bench.has_room))
        bench.workers.handle(message)
        bench.look_up()

    assert (rooms, bench.has_room) == ([[], [], []], ["C"])
    assert len(bench.acked) == 1500


def test_all_links_stop_if_they_say_too_much_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go on together, too."""
    monkeypatch.setattr(module, "MAX_BYTES", 2000)
    rooms = {id_: bench.say(id_, "job_failed", id_, error="x" * 900) for id_ in ("C", "D", "E")}
    assert rooms == {"C": True, "D": False, "E": False}

    bench.publish()
    bench.workers.handle()
    bench.look_up()

    assert bench.has_room == ["D", "E"]
    assert bench.reports.held_bytes == 0


def progress(bench: Bench, n: int, **data: Any) -> None:
    """Report progress."""
    bench.say("C", "job_progress", "a", ack=str(n), **{"entityType": "issue", "processed": n, **data})


def processed(bench: Bench) -> list[int]:
    """Which reports of progress are published."""
    return [item["frame"]["data"]["processed"] for message in bench.publish() for item in items(message)]


def test_progress_replaces_progress_while_the_broker_is_away(bench: Bench) -> None:
    """Both are acknowledged together."""
    bench.reports.is_broker_there = False
    progress(bench, 1)
    progress(bench, 2)

    assert processed(bench) == [2]
    bench.workers.handle()
    bench.look_up()
    assert bench.acked == ["1", "2"]


def test_all_progress_is_sent_without_pressure(bench: Bench) -> None:
    """Each is one more milestone."""
    progress(bench, 1)
    progress(bench, 2)

    assert processed(bench) == [1, 2]


@pytest.mark.parametrize(
    "later",
    [{"entityType": "epic"}, {"resumeState": None}],
    ids=["of other entities", "without the place to resume at"],
)
def test_progress_is_not_replaced_by_what_says_less(bench: Bench, later: dict[str, Any]) -> None:
    """Nothing would say it again."""
    bench.reports.is_broker_there = False
    progress(bench, 1, resumeState={"currentPage": 7})
    progress(bench, 2, **{"resumeState": {"currentPage": 8}, **later})

    assert processed(bench) == [1, 2]


def test_progress_that_was_said_before_something_else_is_not_replaced(bench: Bench) -> None:
    """A report of progress after an end must not be put before it."""
    bench.reports.is_broker_there = False
    progress(bench, 1)
    bench.say("C", "job_completed", "a")
    progress(bench, 2)

    kinds = [item["frame"]["type"] for message in bench.publish() for item in items(message)]
    assert kinds == ["job_progress", "job_completed", "job_progress"]
