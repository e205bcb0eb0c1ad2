"""What is published is repeated until it is handled, and nothing of a connection is said after its end."""

import json

import pytest
from ulid import ULID

from support.gateway.reports import Bench, items
from tasks.contract.payloads import Disconnect


@pytest.fixture
def bench() -> Bench:
    """Reports whose messages a test publishes and handles by hand."""
    return Bench()


def test_a_lost_message_is_repeated_under_its_id(bench: Bench) -> None:
    """After 2 s, then after 4 more: a worker that processed it already changes nothing."""
    bench.say("C", "job_progress", "a")
    (message,) = bench.publish()

    again = {}
    for bench.now in (1.9, 2.0, 3.0, 5.9, 6.0, 13.9, 14.0):
        again[bench.now] = bench.publish()

    assert again == {1.9: [], 2.0: [message], 3.0: [], 5.9: [], 6.0: [message], 13.9: [], 14.0: [message]}
    bench.workers.done.add(message.id)
    bench.look_up()
    assert bench.acked == ["job_progress"]
    bench.now = 1000.0
    assert bench.publish() == []


def test_nothing_is_repeated_while_messages_wait_in_the_queue(bench: Bench) -> None:
    """It may be among them, and workers that catch up would get everything several times; but not for ever."""
    bench.is_queue_empty = False
    bench.say("C", "job_progress", "a")
    (message,) = bench.publish()

    repeated_at = []
    while len(repeated_at) < 2 and bench.now < 300:
        bench.now += 1.0
        if bench.publish() == [message]:
            repeated_at.append(bench.now)
    assert repeated_at == [60.0, 120.0]

    bench.now += 1.0
    bench.is_queue_empty = True
    bench.say("C", "job_progress", "b")
    (other,) = bench.publish()
    bench.now += 2.0
    assert bench.publish() == [other]


def test_what_a_broker_refused_is_published_as_soon_as_it_answers(bench: Bench) -> None:
    """Under the same ids, since some may have been published."""
    bench.say("C", "job_progress", "a")
    taken = bench.reports._take()

    bench.reports._in_flight.failed(taken)

    assert bench.publish() == taken


def test_a_mark_is_said_once_nothing_is_unhandled(bench: Bench) -> None:
    """A worker that sees it earlier would treat the frame after it as stale."""
    bench.say("C", "job_completed", "a")
    (message,) = bench.publish()
    bench.reports.lost("C", 3, "link")

    assert bench.publish() == []
    bench.workers.handle(message)
    bench.look_up()
    (mark,) = bench.publish()
    assert mark.task == "connections.lost"
    assert mark.arguments == b'{"connection_id": "C", "n": 3, "link": "link"}'
    bench.now = 1000.0
    assert bench.publish() == []


def test_a_mark_that_must_wait_too_long_is_not_said(bench: Bench) -> None:
    """The connection's silence is found by the sweep."""
    bench.say("C", "job_completed", "a")
    (message,) = bench.publish()
    bench.reports.goodbye("C", "done")
    bench.now = 10.0
    bench.workers.done.add(message.id)
    bench.look_up()

    assert bench.publish() == []
    assert bench.reports.dropped_marks == 1


def test_a_goodbye_is_said_whatever_its_reason(bench: Bench) -> None:
    """Workers would reject one with a reason that is too long, or that no database stores."""
    bench.reports.goodbye("C", "\0" + "x" * 50_000)

    (mark,) = bench.publish()
    Disconnect.model_validate(json.loads(mark.arguments) | {"connection_id": str(ULID())})


def test_a_newer_link_takes_the_mark_back_but_no_goodbye(bench: Bench) -> None:
    """The connection is not lost; a crawler that said goodbye stays away."""
    for id_ in ("C", "D"):
        bench.say(id_, "job_progress", "a")
    messages = bench.publish()
    bench.reports.lost("C", 1, "link")
    bench.reports.goodbye("D")
    bench.reports.lost("D", 1, "link")
    for id_ in ("C", "D"):
        bench.reports.attach({"connection_id": id_, "n": 2})
    bench.publish()
    bench.workers.handle(messages[0])
    bench.look_up()

    assert [m.task for m in bench.publish()] == ["connections.disconnect"]


def test_one_beat_of_a_link_is_on_its_way_and_the_latest_follows(bench: Bench) -> None:
    """Two that changed places would undo what the later one says."""
    bench.reports.beat("C", {"capacity": 5, "active_jobs": ["a"]})
    (first,) = bench.publish()
    bench.reports.beat("C", {"capacity": 3, "active_jobs": []})
    bench.reports.beat("C", {"capacity": 0})

    assert bench.publish() == []
    bench.workers.handle(first)
    bench.look_up()
    (second,) = bench.publish()
    assert items(second) == [{"connection_id": "C", "capacity": 0, "active_jobs": []}]


def test_an_old_list_of_jobs_is_not_sent_with_a_later_beat(bench: Bench) -> None:
    """Jobs that were assigned since would be missing from it."""
    bench.reports.beat("C", {"active_jobs": ["a"], "capacity": 5})
    bench.now = 2.0
    bench.reports.beat("C", {"capacity": 5})

    (message,) = bench.publish()
    assert items(message) == [{"connection_id": "C", "capacity": 5}]


def test_links_are_attached_together(bench: Bench) -> None:
    """500 a message."""
    for n in range(501):
        bench.reports.attach({"connection_id": str(n), "n": n})

    assert [(m.task, len(items(m))) for m in bench.publish()] == [
        ("connections.attach", 500),
        ("connections.attach", 1),
    ]
