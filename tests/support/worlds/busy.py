"""A database in which everything normal has happened; the audit must not find a fault in it."""

from support.worlds.discoveries import Discoverer, group, project
from support.worlds.world import Crawler, World

TOKEN = "glpat-abcdefghij0123456789"
SCOPE = "authorizationScope"

BEATING = """
    UPDATE socket_connection SET last_heartbeat = clock_timestamp()
     WHERE is_active AND last_heartbeat > clock_timestamp() - interval '50 seconds'
"""
"""Give all connections that were not made silent a heartbeat of now."""


def make_busy(world: World) -> None:
    """Let jobs succeed, fail, get lost, be requeued, revoked, paused, retried, resubmitted and discovered."""
    world.account("acc")
    for account in ("held", "paused", "slow"):
        world.account(account)
    crawler, orders = world.crawler_with_jobs(3)
    crawler.sends("job_started", orders[0])
    crawler.sends("job_progress", orders[1], stage="fetching", entityType="project", processed=3, total=9)
    for happening in (
        _ended_and_begun_anew,
        _changed_by_the_web_app,
        _blocked,
        _found,
        _closed_attempts,
        _too_old,
    ):
        crawler.sends("heartbeat", activeJobs=orders, totalProcessed=0, systemStatus="processing")
        happening(world)
    world.jobs(2)
    world.deliver("jobs.submit", orders=["nonsense", world.order(account_id="nobody")])
    world.deliver("upkeep.reconcile", more=True)


def _ended_and_begun_anew(world: World) -> None:
    crawler, orders = world.crawler_with_jobs(4)
    finished, failed, broken, again = orders
    job_ids = dict(world.rows("SELECT crawler_job_id, web_app_job_id FROM job_assignment_mapping"))
    crawler.sends("job_completed", finished, success=True, finalCounts={"issues": 7})
    crawler.sends("job_completed", finished, success=True, finalCounts={"issues": 7})
    crawler.fails(failed)
    crawler.fails(broken, recoverable=False, context={"status": 500})
    crawler.fails(again, recoverable=False)
    world.deliver("jobs.retry", job_ids=[job_ids[again]])
    ordered = world.row("SELECT * FROM job WHERE id = :id", id=job_ids[finished])
    world.submit(world.order(web_app_job_id=ordered.id, namespace_path=ordered.full_path, force=True))
    world.assign()
    for order in crawler.orders():
        crawler.sends("job_completed", order, success=True, finalCounts={})
    world.rows("UPDATE job SET status = 'queued' WHERE id = :id", id=job_ids[again])
    world.deliver("upkeep.reconcile", more=True)
    world.assign()
    for order in crawler.orders():
        crawler.sends("job_completed", order, success=True, finalCounts={})
    world.deliver("connections.disconnect", connection_id=crawler.id)
    _sweep(world)


def _closed_attempts(world: World) -> None:
    """A crawler dies, one disconnects, and one does not report its job; each job waits again."""
    dead, _ = world.crawler_with_jobs(2)
    dead.silent_for(60)
    _sweep(world)
    leaving = _assigned(world)
    world.deliver("connections.disconnect", connection_id=leaving.id)
    _sweep(world)
    forgetful = _assigned(world)
    forgetful.sends("heartbeat", activeJobs=[], totalProcessed=0, systemStatus="idle")
    world.rows("UPDATE job_assignment_mapping SET absent_since = now() - interval '1 hour'"
               " WHERE completed_at IS NULL AND connection_id = :id", id=forgetful.id)  # fmt: skip
    _sweep(world)
    forgetful.silent_for(60)
    _sweep(world)


def _changed_by_the_web_app(world: World) -> None:
    """Jobs are cancelled, paused and resumed, by commands or directly in the web app's table."""
    crawler, _ = world.crawler_with_jobs(7)
    rows = world.rows(
        "SELECT web_app_job_id FROM job_assignment_mapping WHERE connection_id = :id ORDER BY 1",
        id=crawler.id,
    )
    ids = [job_id for (job_id,) in rows]
    world.deliver("jobs.cancel", job_ids=ids[:1])
    world.deliver("jobs.pause", job_ids=ids[1:3])
    world.deliver("jobs.resume", job_ids=ids[1:2])
    world.rows("UPDATE job SET status = 'paused' WHERE id = :id", id=ids[3])
    world.rows("UPDATE job SET status = 'cancelled' WHERE id = :id", id=ids[4])
    world.rows("UPDATE job SET status = 'finished' WHERE id = :id", id=ids[5])
    world.insert_job()
    world.insert_job(status="paused")
    world.insert_job(command=SCOPE, full_path=None)
    world.deliver("upkeep.reconcile", more=True)
    world.rows("DELETE FROM job WHERE id = :id", id=ids[6])
    crawler.silent_for(60)
    _sweep(world)


def _found(world: World) -> None:
    discoverer = Discoverer.at_work(world)
    discoverer.finds(group("team", 1), project("team/tool", 2))
    discoverer.sends("job_completed", success=True, finalCounts={})


def _blocked(world: World) -> None:
    """One account is blocked for lack of a token and one is paused; both have running jobs."""
    crawler, (order,) = world.crawler_with_jobs(1, account_id="held")
    world.rows("UPDATE account SET access_token_expires_at = now() WHERE id = 'held'")
    crawler.sends("token_refresh_request", order)
    world.crawler_with_jobs(1, account_id="paused")
    world.deliver("jobs.pause", account_id="paused", reason="a holiday")
    world.rows("INSERT INTO deferred_job (id, account_id, command, full_path, priority, spawned_from)"
               " VALUES ('later', 'paused', 'issues', 'later', 1, 'x')")  # fmt: skip


def _too_old(world: World) -> None:
    """Two attempts take too long; one of their jobs waits again, and one is cancelled then."""
    crawler, orders = world.crawler_with_jobs(2, account_id="slow")
    crawler.sends("job_progress", orders[0], stage="fetching", entityType="project", processed=3)
    world.rows("UPDATE job_assignment_mapping SET assigned_at = now() - interval '8 days', progressed_at = now()"
               " WHERE completed_at IS NULL AND connection_id = :id", id=crawler.id)  # fmt: skip
    _sweep(world)
    cancelled = world.scalar(
        "SELECT web_app_job_id FROM job_assignment_mapping WHERE crawler_job_id = :id", id=orders[1]
    )
    world.deliver("jobs.cancel", job_ids=[cancelled])


def _assigned(world: World) -> Crawler:
    crawler = world.crawler(capacity=1)
    world.assign()
    return crawler


def _sweep(world: World) -> None:
    """Expire the connections that are silent on purpose, and only these."""
    world.rows(BEATING)
    world.sweep()
