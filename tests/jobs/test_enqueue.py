"""Existing jobs: those that the web app inserted are queued, and ended ones are queued again on request."""

from typing import Any

import pytest
from ulid import ULID

from support.worlds.world import World


def queue_counts(world: World) -> dict[str, int]:
    """The number of entries by status."""
    return dict(world.rows("SELECT status, count(*) FROM job_queue GROUP BY 1"))


def ended(world: World, status: str, **columns: Any) -> dict[str, Any]:
    """An order whose job has ended with this status and has a resume state."""
    order = world.order(**columns)
    world.submit(order)
    entry = "completed" if status == "finished" else "failed"
    world.rows(
        "UPDATE job SET status = :s, started_at = now(), finished_at = now(), resume_state = '{\"currentPage\": 3}'",
        s=status,
    )
    world.rows(
        "UPDATE job_queue SET status = :s, settled_at = now(), attempts = 3, losses = 1, error = 'it broke'",
        s=entry,
    )
    world.published.messages.clear()
    return order


def test_jobs_inserted_by_the_web_app_are_queued(world: World) -> None:
    """The entry gets the account and host of the job; an event is added and a round is published."""
    job_id = world.insert_job(gitlabGraphQLUrl="https://gitlab.example.net:8443/api/graphql")

    world.deliver("jobs.enqueue", job_ids=[job_id])

    entry = world.entry(job_id)
    assert (entry.status, entry.ready, entry.held, entry.priority) == ("pending", True, False, 1)
    assert (entry.account_id, entry.host, entry.data) == ("acc", "gitlab.example.net:8443", None)
    assert [(e.job_id, e.payload) for e in world.events("job_created")] == [(job_id, {"existing": False})]
    assert world.published.messages == [("jobs.assign", {})]


def test_uncommitted_jobs_are_left_to_reconcile(world: World) -> None:
    """The web app may publish before its transaction commits: an unknown id is no error."""
    visible, invisible = world.insert_job(), str(ULID())

    world.deliver("jobs.enqueue", job_ids=[invisible, visible])

    assert queue_counts(world) == {"pending": 1}
    assert world.rejections() == []
    world.insert_job(id=invisible)
    world.deliver("upkeep.reconcile")
    assert world.entry(invisible).status == "pending"


@pytest.mark.parametrize(
    "status",
    [
        "running",
        "paused",
        "failed",
        "finished",
        "cancelled",
        "credential_expired",
        "waiting_credential_renewal",
    ],
)
def test_a_job_that_is_not_queued_is_ignored(world: World, status: str) -> None:
    """No entry, rejection, event or message results."""
    job_id = world.insert_job(status=status)
    before = world.snapshot()

    world.deliver("jobs.enqueue", job_ids=[job_id])

    assert world.snapshot() == before
    assert world.published.messages == []


def test_an_authorization_scope_job_is_rejected_and_the_others_queued(world: World) -> None:
    """No crawler is ever assigned an authorizationScope job."""
    own, good = world.insert_job(command="authorizationScope", full_path=None), world.insert_job()

    world.deliver("jobs.enqueue", job_ids=[own, good])

    assert world.rows("SELECT web_app_job_id FROM job_queue") == [(good,)]
    assert world.rejections() == [("jobs.enqueue", "own_command")]


@pytest.mark.parametrize("bad", [None, 7, "", "x" * 65, "a\x00b", "\ud800", ["x"]])
def test_an_invalid_id_is_rejected_alone(world: World, bad: object) -> None:
    """The valid ids beside it are queued."""
    good = world.insert_job()

    world.deliver("jobs.enqueue", job_ids=[bad, good])

    assert world.rejections() == [("jobs.enqueue", "invalid")]
    assert queue_counts(world) == {"pending": 1}


def test_a_job_enqueued_twice_has_one_entry(world: World) -> None:
    """The id may be repeated in the message, in another message, or by a redelivery."""
    job_id, message = world.insert_job(), str(ULID())
    world.deliver("jobs.enqueue", message, job_ids=[job_id, job_id])
    before = world.snapshot()
    world.published.messages.clear()

    world.deliver("jobs.enqueue", message, job_ids=[job_id])
    world.deliver("jobs.enqueue", job_ids=[job_id])

    assert world.snapshot() == before
    assert len(before["job_queue"]) == len(before["dispatch_event"]) == 1
    assert world.published.messages == []


def test_a_rejection_delivered_twice_is_stored_once(world: World) -> None:
    """A processed message changes nothing when it is delivered again."""
    own, message = world.insert_job(command="authorizationScope"), str(ULID())

    for _ in range(2):
        world.deliver("jobs.enqueue", message, job_ids=[own])

    assert world.rejections() == [("jobs.enqueue", "own_command")]


def test_a_running_job_is_not_requeued(world: World) -> None:
    """Its entry and its attempt stay as they are."""
    crawler, orders = world.crawler_with_jobs()
    (job_id,) = [id_ for (id_,) in world.rows("SELECT id FROM job")]

    world.deliver("jobs.enqueue", job_ids=[job_id])

    assert crawler.orders() == orders
    assert queue_counts(world) == {"processing": 1}


@pytest.mark.parametrize("status", ["finished", "failed", "cancelled"])
def test_an_ended_job_set_to_queued_starts_with_clean_counts(world: World, status: str) -> None:
    """The web app wants it crawled anew: earlier failures no longer count."""
    job_id = ended(world, status)["web_app_job_id"]
    world.rows("UPDATE job SET status = 'queued'")

    world.deliver("jobs.enqueue", job_ids=[job_id])

    entry = world.entry(job_id)
    assert (entry.status, entry.attempts, entry.losses, entry.error, entry.settled_at) == (
        "pending",
        0,
        0,
        None,
        None,
    )
    assert world.published.messages == [("jobs.assign", {})]


def test_a_thousand_jobs_are_queued_in_one_message(world: World) -> None:
    """Each of them gets one entry."""
    world.rows(
        'INSERT INTO job (id, "accountId", command, full_path)'
        " SELECT 'job-' || n, 'acc', 'project', 'group/' || n FROM generate_series(1, 1000) n"
    )

    world.deliver("jobs.enqueue", job_ids=[f"job-{n}" for n in range(1, 1001)])

    assert queue_counts(world) == {"pending": 1000}
    assert len(world.events("job_created")) == 1000
    assert world.published.messages == [("jobs.assign", {})]


@pytest.mark.parametrize("status", ["finished", "failed", "cancelled", "paused"])
@pytest.mark.parametrize("resume", [True, False])
def test_force_requeues_an_ended_job(world: World, status: str, resume: bool) -> None:  # noqa: FBT001
    """All counters are 0; with `resume` it continues where it was, otherwise it starts from the beginning."""
    order = ended(world, status)
    job_id = order["web_app_job_id"]

    world.submit(order | {"web_app_job_id": str(ULID()), "force": True, "resume": resume})

    job, entry = world.job(job_id), world.entry(job_id)
    assert (job.status, job.finished_at) == ("queued", None)
    assert job.resume_state == ({"currentPage": 3} if resume else None)
    assert (entry.status, entry.attempts, entry.losses, entry.error, entry.settled_at) == (
        "pending",
        0,
        0,
        None,
        None,
    )
    assert [e.payload for e in world.events("job_updated")] == [{"status": "queued"}]
    assert world.published.messages == [("jobs.assign", {})]


def test_without_force_an_ended_job_stays_ended(world: World) -> None:
    """The order is answered with the job, however that ended."""
    order = ended(world, "failed")

    world.submit(order | {"resume": True})

    assert world.job(order["web_app_job_id"]).status == "failed"
    assert queue_counts(world) == {"failed": 1}
    assert world.published.messages == []


def test_force_does_not_change_a_waiting_or_running_job(world: World) -> None:
    """A live attempt continues, and the entry stays as it is."""
    waiting = world.order()
    crawler, (order,) = world.crawler_with_jobs()
    running = world.row("SELECT * FROM job")
    crawler.sends("job_started", order)
    world.submit(waiting)

    again = {"web_app_job_id": str(ULID()), "force": True}
    world.submit(waiting | again, world.order(namespace_path=running.full_path) | again)

    assert crawler.orders() == [order]
    assert queue_counts(world) == {"pending": 1, "processing": 1}
    assert world.job(running.id).status == "running"


def test_force_requeues_a_job_without_an_entry(world: World) -> None:
    """A job can lose its completed entry to the clean-up and still be ordered again."""
    order = ended(world, "finished")
    world.rows("DELETE FROM job_queue")

    world.submit(order | {"force": True})

    assert queue_counts(world) == {"pending": 1}
    assert world.job(order["web_app_job_id"]).status == "queued"
