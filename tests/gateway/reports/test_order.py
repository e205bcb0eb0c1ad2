"""In which order frames reach the workers: whatever overtakes what, the end of an attempt is applied last."""

import pytest

from support.gateway.reports import Bench, kinds


@pytest.fixture
def bench() -> Bench:
    """Reports whose messages a test publishes and handles by hand."""
    return Bench()


def test_an_end_joins_the_unsent_frames_of_its_attempt(bench: Bench) -> None:
    """One message holds all; nothing needs to wait."""
    for kind in ("job_started", "job_progress", "job_completed"):
        bench.say("C", kind, "a")

    assert [kinds(m) for m in bench.publish()] == [["job_started", "job_progress", "job_completed"]]


def test_an_end_waits_for_earlier_messages_of_its_attempt_alone(bench: Bench) -> None:
    """Another attempt's end goes at once."""
    bench.say("C", "job_progress", "a")
    (first,) = bench.publish()
    bench.say("C", "job_completed", "a")
    bench.say("C", "job_completed", "b")

    assert [kinds(m) for m in bench.publish()] == [["job_completed"]]
    assert bench.publish() == []
    bench.workers.handle(first)
    bench.look_up()
    assert [kinds(m) for m in bench.publish()] == [["job_completed"]]


def test_a_full_message_keeps_no_end_from_waiting(bench: Bench) -> None:
    """The frames before it went into a message that has no room for it."""
    for _ in range(500):
        bench.say("C", "job_progress", "a")
    bench.say("C", "job_completed", "a")

    (first,) = bench.publish()
    bench.workers.handle(first)
    bench.look_up()

    assert kinds(first) == ["job_progress"] * 500
    assert [kinds(m) for m in bench.publish()] == [["job_completed"]]


def test_frames_after_a_waiting_end_stay_behind_it(bench: Bench) -> None:
    """Otherwise a worker would apply them."""
    bench.say("C", "jobs_discovered", "a", discovered_jobs=[])
    (discovery,) = bench.publish()
    bench.say("C", "job_failed", "a")
    bench.say("C", "job_progress", "a")

    assert bench.publish() == []
    bench.workers.handle(discovery)
    bench.look_up()
    assert [kinds(m) for m in bench.publish()] == [["job_failed", "job_progress"]]


def test_an_end_does_not_wait_for_what_was_said_after_it(bench: Bench) -> None:
    """A crawler that goes on discovering cannot hold its own end back."""
    bench.say("C", "job_progress", "a")
    (progress,) = bench.publish()
    bench.say("C", "job_completed", "a")
    bench.say("C", "jobs_discovered", "a", discovered_jobs=[])
    bench.publish()
    bench.workers.handle(progress)
    bench.look_up()

    assert [kinds(m) for m in bench.publish()] == [["job_completed"]]


def test_an_end_said_again_is_sent_once_and_acknowledged_twice(bench: Bench) -> None:
    """After a welcome a crawler says again what was not acknowledged."""
    bench.say("C", "job_completed", "a", ack="first")
    (message,) = bench.publish()
    bench.say("C", "job_completed", "a", ack="again")

    assert bench.publish() == []
    bench.workers.handle(message)
    bench.look_up()
    assert bench.acked == ["first", "again"]


def test_an_end_waits_for_all_messages_before_it(bench: Bench) -> None:
    """Whichever of them is handled first."""
    messages = []
    for _ in range(3):
        bench.say("C", "job_progress", "a")
        messages += bench.publish()
    bench.say("C", "job_completed", "a")

    for message in (messages[1], messages[2], messages[0]):
        assert bench.publish() == []
        bench.workers.handle(message)
        bench.look_up()

    assert [kinds(m) for m in bench.publish()] == [["job_completed"]]


def test_another_attempt_on_the_same_link_holds_no_end_back(bench: Bench) -> None:
    """Its frames are in flight; they say nothing of this one."""
    bench.say("C", "job_progress", "b")
    bench.publish()
    bench.say("C", "job_completed", "a")

    assert [kinds(m) for m in bench.publish()] == [["job_completed"]]
