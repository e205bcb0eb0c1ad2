"""Scenarios of frames."""

from typing import Any

from ulid import ULID

from proofs.crashes.scenario import scenario
from support.worlds.discoveries import Discoverer, group, project, user
from support.worlds.world import World

LATER = "2026-05-04T03:02:09Z"

Payload = dict[str, Any]


def frames_payload(*frames: Any) -> Payload:
    """Return a payload of crawler.frames."""
    return {"frames": list(frames)}


@scenario("crawler.frames")
def start(world: World) -> Payload:
    """Start two jobs."""
    crawler, orders = world.crawler_with_jobs(2)
    return frames_payload(*(crawler.frame("job_started", order) for order in orders))


@scenario("crawler.frames")
def progress(world: World) -> Payload:
    """Let one job progress after a loss, with a resume state; start another."""
    crawler, (first, second) = world.crawler_with_jobs(2)
    world.rows("UPDATE job_queue SET losses = 1")
    crawler.sends("job_started", first)
    steps = {"stage": "fetching", "entityType": "issue", "total": 10, "resumeState": {"currentPage": 3}}
    return frames_payload(
        crawler.frame("job_progress", first, processed=3, **steps),
        crawler.frame("job_progress", first, processed=5, **steps),
        crawler.frame("job_started", second),
        crawler.frame("job_progress", second, processed=1, **steps),
    )


@scenario("crawler.frames")
def completion(world: World) -> Payload:
    """Complete one job with success and one without; two more wait for the slots."""
    crawler, orders = world.crawler_with_jobs(2)
    world.jobs(2)
    return frames_payload(
        crawler.frame("job_completed", orders[0], success=True, finalCounts={"issue": 7}),
        crawler.frame("job_completed", orders[1], success=False, message="half of it"),
    )


@scenario("crawler.frames")
def failures(world: World) -> Payload:
    """Let one job fail for the first time, one for the last time, and one permanently."""
    crawler, orders = world.crawler_with_jobs(3)
    tried = "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :order"
    world.rows(
        f"UPDATE job_queue SET attempts = 2, losses = 1 WHERE web_app_job_id = ({tried})", order=orders[1]
    )
    return frames_payload(
        crawler.frame(
            "job_failed", orders[0], error="it broke", isRecoverable=True, resumeState={"currentPage": 2}
        ),
        crawler.frame("job_failed", orders[1], error="again", errorType="Timeout", isRecoverable=True),
        crawler.frame(
            "job_failed", orders[2], error="permanently", isRecoverable=False, stackTrace="at line 1"
        ),
    )


@scenario("crawler.frames")
def dead_tokens(world: World) -> Payload:
    """Report a dead token for two jobs of one account, while a job of another account completes."""
    world.account("other")
    crawler, (first, second) = world.crawler_with_jobs(2)
    other, (third,) = world.crawler_with_jobs(1, account_id="other")
    return frames_payload(
        crawler.frame("token_refresh_request", first, current_token_expired=True, error_details="401"),
        crawler.frame("token_refresh_request", second),
        other.frame("job_completed", third),
    )


@scenario("crawler.frames")
def token_that_was_renewed(world: World) -> Payload:
    """Report a dead token of an account that has a new one already."""
    crawler, (order,) = world.crawler_with_jobs(1)
    world.deliver("credentials.renewed", account_id="acc")
    world.rows("UPDATE job_assignment_mapping SET assigned_at = assigned_at - interval '1 hour'")
    world.rows("UPDATE account_lane SET renewed_at = clock_timestamp() - interval '10 minutes'")
    return frames_payload(crawler.frame("token_refresh_request", order))


@scenario("crawler.frames")
def discoveries(world: World) -> Payload:
    """Discover a tree in two frames, then complete the job."""
    found = Discoverer.at_work(world)
    return frames_payload(
        found.frame(group("team", 7), project("team/1", 1), project("team/2", 2)),
        found.frame(user("ann", 3), project("team/3", 3), at=LATER),
        found.crawler.frame("job_completed", found.order),
    )


@scenario("crawler.frames", settings={"CRAWLYARD_PENDING_CAP": "4"})
def discovery_beyond_the_cap(world: World) -> Payload:
    """Discover more than the cap, so that jobs are deferred."""
    found = Discoverer.at_work(world)
    return frames_payload(found.frame(project("a", 1), project("b", 2)))


@scenario(
    "crawler.frames", constants={"tasks.discovery.apply.CHUNK": 1, "tasks.discovery.apply.TIME_LIMIT_S": 0.0}
)
def discovery_in_parts(world: World) -> Payload:
    """Discover so much that it is applied in parts, in several deliveries."""
    found = Discoverer.at_work(world)
    return frames_payload(
        found.frame(project("a", 1), project("b", 2)), found.frame(project("c", 3), at=LATER)
    )


@scenario("crawler.frames")
def discovery_that_moves(world: World) -> Payload:
    """Discover a moved project, a path with a new id, and a failed child."""
    found = Discoverer.at_work(world)
    found.finds(project("a", 1), project("b", 2))
    world.rows("UPDATE job SET status = 'failed', finished_at = now() WHERE command = 'branches'")
    world.rows(
        "UPDATE job_queue q SET status = 'failed', settled_at = now() FROM job"
        " WHERE job.id = web_app_job_id AND command = 'branches'"
    )
    return frames_payload(found.frame(project("c", 1), project("b", 3), at=LATER))


@scenario("crawler.frames")
def discovery_that_proposes(world: World) -> Payload:
    """Discover an area of another account at another path, and its path with another id."""
    world.account("other")
    Discoverer.at_work(world, account="other").finds(project("a", 1))
    found = Discoverer.at_work(world)
    return frames_payload(found.frame(project("c", 1), project("a", 3), at=LATER))


@scenario("areas.decide")
def changes_that_are_accepted(world: World) -> Payload:
    """Accept that a group has moved, and that a path has another id."""
    world.account("other")
    Discoverer.at_work(world, account="other").finds(group("a", 7), project("a/1", 1), project("b", 2))
    Discoverer.at_work(world).finds(group("c", 7), project("b", 3), at=LATER)
    ids = [id_ for (id_,) in world.rows("SELECT id FROM area_change ORDER BY id")]
    return {"change_ids": ids, "accept": True}


@scenario("crawler.frames")
def refused_items(world: World) -> Payload:
    """Discover entities that are refused, also for an unknown attempt."""
    found = Discoverer.at_work(world)
    return frames_payload(
        found.frame(project("a", 1), project("x" * 900, 2) | {"namespace_path": "y" * 5000}, project("b", 1)),
        found.crawler.frame("jobs_discovered", str(ULID()), discovered_jobs=[project("c", 4)]),
    )


LARGE_JUNK = {"tasks.sanitize.refused._UNIT_BYTES": 20_000, "tasks.sanitize.texts.FEW": 10_000}
"""So small that what is refused is stored by several units, and texts are redacted before the first."""


@scenario("crawler.frames", constants=LARGE_JUNK)
def large_junk(world: World) -> Payload:
    """Send large junk beside a heartbeat, an end with a long error, and a discovery that is refused in part."""
    found = Discoverer.at_work(world)
    crawler, (order,) = world.crawler_with_jobs(1)
    text = "token=abcdefgh " * 1500
    junk = [{"connection_id": crawler.id, "frame": {"type": "junk", "n": n, "text": text}} for n in range(3)]
    return frames_payload(
        *junk,
        crawler.frame("heartbeat"),
        crawler.frame("job_failed", order, error="it broke", stackTrace=text, isRecoverable=True),
        found.frame(project("a", 1), project("b", 2) | {"job_type": text}),
    )


@scenario("failures.log", constants=LARGE_JUNK)
def large_failures(world: World) -> Payload:
    """Report errors with long texts, of a job and of none, beside items that are no errors."""
    (job,) = world.jobs(1)
    error = {"error_type": "Odd", "error_message": "token=abcdefgh " * 1000}
    return {"errors": [error | {"job_id": job}, error | {"job_id": str(ULID())}, error, error]}


@scenario("crawler.frames")
def stale_and_unknown_frames(world: World) -> Payload:
    """Send frames of a closed and of an unknown attempt, an invalid one, and a good one."""
    crawler, (ended, live) = world.crawler_with_jobs(2)
    crawler.sends("job_completed", ended)
    unknown = {"connection_id": str(ULID()), "frame": crawler.frame("heartbeat")["frame"]}
    return frames_payload(
        crawler.frame("job_completed", ended),
        crawler.frame("job_progress", ended, stage="fetching", entityType="issue", processed=1),
        crawler.frame("job_started", str(ULID())),
        {"connection_id": crawler.id, "frame": {"type": "nothing"}},
        unknown,
        crawler.frame("job_started", live),
    )


@scenario("crawler.frames")
def requests_and_heartbeats(world: World) -> Payload:
    """Send a job_request, and a heartbeat with a list of jobs."""
    crawler, orders = world.crawler_with_jobs(2)
    world.jobs(1)
    return frames_payload(
        crawler.frame("job_request", capacity=7),
        crawler.frame("heartbeat", activeJobs=orders[:1], systemStatus="processing"),
    )


@scenario("crawler.frames")
def invalid_payload(_: World) -> Payload:
    """Send a payload that is invalid as a whole."""
    return {"frames": "none", "token": "x"}
