"""No crawler takes more than its share: capacity, the age of an attempt, progress that repeats itself, quick ends."""

from datetime import timedelta
from typing import Any

import pytest

from support.command import Run
from support.worlds.discoveries import Discoverer, group
from support.worlds.world import Crawler, World

PROGRESS = {"stage": "fetching", "entityType": "issue"}


def age_attempts(world: World, column: str, age: str) -> None:
    """Make this moment of all live attempts that old."""
    world.rows(
        f"UPDATE job_assignment_mapping SET {column} = clock_timestamp() - CAST(:age AS interval)"
        " WHERE completed_at IS NULL",
        age=age,
    )


def progressed(world: World) -> bool:
    """True if the only live attempt has advanced since it was aged."""
    return bool(
        world.scalar(
            "SELECT progressed_at > clock_timestamp() - interval '1 minute' FROM job_assignment_mapping"
            " WHERE completed_at IS NULL"
        )
    )


def limits_told(world: World) -> list[tuple[str, dict[str, Any]]]:
    """Connection and payload of each event `capacity_limited`."""
    return [(e.connection_id, e.payload) for e in world.events("capacity_limited")]


@pytest.mark.parametrize("by", ["register", "heartbeat", "job_request"])
def test_capacity_is_clamped_and_told_once(world: World, by: str) -> None:
    """However a crawler asks for too much, and however often, it gets the operator's cap and one event."""
    crawler = world.crawler(capacity=1000 if by == "register" else 7)
    for _ in range(2):
        if by == "heartbeat":
            world.deliver("connections.heartbeat", beats=[{"connection_id": crawler.id, "capacity": 1000}])
        elif by == "job_request":
            crawler.sends("job_request", capacity=1000)

    assert (crawler.row().capacity, crawler.row().asked_capacity) == (100, 1000)
    assert limits_told(world) == [(crawler.id, {"asked": 1000, "capacity": 100})]

    crawler.sends("job_request", capacity=9)
    assert (crawler.row().capacity, crawler.row().asked_capacity) == (9, None)
    crawler.sends("job_request", capacity=1000)
    assert len(limits_told(world)) == 2


def test_a_capacity_that_may_be_is_not_told(world: World) -> None:
    """The cap itself is allowed."""
    crawler = world.crawler(capacity=100)

    crawler.sends("job_request", capacity=100)

    assert (crawler.row().capacity, limits_told(world)) == (100, [])


def test_a_message_with_a_discovery_tells_the_limit_too(world: World) -> None:
    """Its senders are recorded as alive first, in a transaction of its own, which must not swallow the news."""
    discoverer = Discoverer.at_work(world)
    discovery = discoverer.crawler.frame(
        "discovery", discoverer.order, entityType="group", entities=[{"id": "1", "name": "a", "path": "a"}]
    )

    world.sends(discovery, discoverer.crawler.frame("job_request", capacity=1000))

    assert [payload for _, payload in limits_told(world)] == [{"asked": 1000, "capacity": 100}]


def test_one_greedy_crawler_leaves_work_for_others(world: World) -> None:
    """Also if a worker of an older version stored what it asked for."""
    world.jobs(130)
    greedy = world.crawler(capacity=100)
    world.rows("UPDATE socket_connection SET capacity = 1000")

    world.assign()

    assert len(greedy.orders()) == 100


def test_an_attempt_that_is_too_old_ends_without_a_loss_if_it_progressed(world: World) -> None:
    """Its job is queued again where it stopped, and its crawler keeps its connection."""
    crawler, (old, fresh) = world.crawler_with_jobs(2)
    crawler.sends("job_progress", old, **PROGRESS, processed=1, resumeState={"currentPage": 4})
    crawler.sends("job_progress", fresh, **PROGRESS, processed=1)
    aged = "UPDATE job_assignment_mapping SET assigned_at = assigned_at - CAST(:age AS interval)"
    world.rows(f"{aged} WHERE crawler_job_id = :fence", age="7 days 1 minute", fence=old)
    world.rows(f"{aged} WHERE crawler_job_id = :fence", age="6 days 23 hours", fence=fresh)

    world.sweep()

    assert crawler.orders() == [fresh]
    (error,) = world.rows("SELECT * FROM job_error_log")
    assert error.error_type == "TooOld"
    assert (world.entry(error.job_id).status, world.entry(error.job_id).losses) == ("pending", 0)
    job = world.job(error.job_id)
    assert (job.status, job.resume_state) == ("queued", {"currentPage": 4})
    assert [e.payload["reason"] for e in world.events("job_revoked")] == ["TooOld"]


def test_an_attempt_that_is_too_old_and_got_nowhere_is_a_loss(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that never progresses must end some time."""
    monkeypatch.setenv("CRAWLYARD_STALL_TIMEOUT", "1000000")
    world.reload_settings()
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_progress", order, **PROGRESS, processed=0)
    age_attempts(world, "assigned_at", "8 days")

    world.sweep()

    assert world.rows("SELECT losses FROM job_queue") == [(1,)]


@pytest.mark.parametrize(
    ("news", "advances"),
    [
        ({"processed": 5, "currentPage": 3}, False),
        ({"processed": 4, "currentPage": 2, "total": 99, "message": "still here"}, False),
        ({"processed": 5, "itemCounts": {"issue": 2, "note": 0}}, False),
        ({"processed": 5, "resumeState": {"currentPage": 3, "lastEntityId": "another"}}, False),
        ({"processed": 6}, True),
        ({"processed": 5, "itemCounts": {"note": 1}}, True),
        ({"processed": 5, "currentPage": 4}, True),
        ({"processed": 5, "resumeState": {"currentPage": 4}}, True),
        ({"processed": 0, "entityType": "note"}, True),
    ],
)
def test_only_progress_that_advances_keeps_an_attempt_alive(
    world: World, news: dict[str, Any], *, advances: bool
) -> None:
    """A count, a page or an entity type beyond what this attempt has reported; not a frame as such."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_progress", order, **PROGRESS, processed=5, currentPage=3)
    age_attempts(world, "progressed_at", "2 hours")

    crawler.sends("job_progress", order, **(PROGRESS | news))
    crawler.sends("job_started", order)

    assert progressed(world) is advances
    world.sweep()
    assert crawler.orders() == ([order] if advances else [])


def test_redoing_pages_after_a_resume_does_not_stall(world: World) -> None:
    """Each attempt is compared with itself, not with the best that any attempt reached."""
    crawler, (order,) = world.crawler_with_jobs()
    crawler.sends("job_progress", order, **PROGRESS, processed=90, currentPage=9)
    crawler.fails(order)
    world.rows("UPDATE job_queue SET scheduled_at = now()")
    world.assign()
    (again,) = crawler.orders()
    crawler.sends("job_started", again)
    age_attempts(world, "progressed_at", "2 hours")

    crawler.sends("job_progress", again, **PROGRESS, processed=10, currentPage=1)
    world.sweep()

    assert crawler.orders() == [again]


@pytest.mark.parametrize(
    ("found", "advances"),
    [([group("team", 1)], False), ([], False), ([group("other", 2)], True)],
    ids=["repeated", "nothing", "news"],
)
def test_only_a_new_discovery_keeps_an_attempt_alive(
    world: World, found: list[dict[str, Any]], *, advances: bool
) -> None:
    """One that was applied before, or that finds nothing, is no progress."""
    discoverer = Discoverer.at_work(world)
    discoverer.finds(group("team", 1))
    age_attempts(world, "progressed_at", "2 hours")

    discoverer.finds(*found)

    assert progressed(world) is advances


def end_all(world: World, crawler: Crawler) -> None:
    """Assign jobs, and let the crawler complete whatever it has."""
    world.assign()
    world.sends(*(crawler.frame("job_completed", order, success=True) for order in crawler.orders()))


def test_a_connection_that_ends_implausibly_many_is_reported_once(
    world: World, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """What a crawler has may end at once, as after a delay of ours: only what exceeds its capacity counts."""
    monkeypatch.setenv("CRAWLYARD_MAX_END_RATE", "0.2")
    world.reload_settings()
    world.jobs(12)
    crawler = world.crawler(capacity=3)

    end_all(world, crawler)
    assert (crawler.row().ends, world.events("implausible_ends")) == (3, [])
    end_all(world, crawler)
    end_all(world, crawler)

    assert [(e.connection_id, e.payload) for e in world.events("implausible_ends")] == [
        (crawler.id, {"ended": 6, "seconds": 10.0})
    ]
    warnings = [f for f in run("doctor", "--json").json["findings"] if f["about"] == "ended attempts"]
    assert [(f["level"], crawler.id in f["detail"]) for f in warnings] == [("warning", True)]


def test_ends_are_counted_anew_after_the_window(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A steady crawler is never reported, nor after the database's clock was set back."""
    monkeypatch.setenv("CRAWLYARD_MAX_END_RATE", "0.01")
    world.reload_settings()
    world.jobs(9)
    crawler = world.crawler(capacity=3)

    for shift in (timedelta(seconds=-11), timedelta(seconds=60), timedelta(0)):
        end_all(world, crawler)
        assert crawler.row().ends == 3
        world.rows("UPDATE socket_connection SET ends_from = ends_from + CAST(:by AS interval)", by=shift)

    assert world.events("implausible_ends") == []


def test_the_doctor_names_greedy_crawlers(world: World, run: Run) -> None:
    """An operator sees who asked for more than the cap."""
    crawler = world.crawler(capacity=1000)

    warnings = [f for f in run("doctor", "--json").json["findings"] if f["about"] == "capacity"]

    assert [(f["level"], crawler.id in f["detail"]) for f in warnings] == [("warning", True)]
