"""
The line `mass_death`: ten thousand connections with fifty thousand jobs fall silent at the same time.

Timed from the moment at which they may be expired, after the grace period for a whole fleet, until the last job waits
again. The tasks of one sweep run one after the other in this process, as in one pool process of a worker. Measured on
tables that were never analyzed, and on analyzed ones.
"""

from collections.abc import Iterator

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.figures import Figure, at_most
from benchmarks.harness.local import deliver
from console.embedded.servers import Services

CONNECTIONS, JOBS = 10_000, 50_000

_ACCOUNTS = 1_000
_UNITS = 1_000
"""More than are needed."""

_SILENT = """
    WITH swept AS (
        UPDATE liveness_state SET last_sweep_at = clock_timestamp(), grace_until = clock_timestamp(),
                                  mass_waited_at = clock_timestamp() - interval '1 hour'
    )
    UPDATE socket_connection SET last_heartbeat = clock_timestamp() - interval '1 hour'
"""

_BACK = """
    SELECT count(*) FROM job_queue q JOIN job ON job.id = q.web_app_job_id
     WHERE q.status = 'pending' AND job.status = 'queued'
"""

_LEFT = "SELECT count(*) FROM socket_connection WHERE is_active"


def measure(services: Services) -> Iterator[Figure]:
    """Seconds until all jobs are requeued, and the longest task."""
    for state in ("never analyzed", "analyzed"):
        with bed(services) as there:
            units = _sweep(there, is_analyzed=state == "analyzed")
        title = f"requeueing {JOBS:,} jobs of {CONNECTIONS:,} dead connections, {state}"
        yield Figure(title, "s", [sum(units)], aim=at_most(12))
        yield Figure(f"the longest of {len(units)} sweep tasks, {state}", "s", [max(units)], aim=at_most(0.5))


def _sweep(there: Bed, *, is_analyzed: bool) -> list[float]:
    """Run one sweep, and return the seconds of each task. Raises RuntimeError if a job is not requeued."""
    depth = Depth(there, f"n % {_ACCOUNTS}")
    depth.connect(CONNECTIONS)
    depth.occupy(JOBS, CONNECTIONS)
    if is_analyzed:
        there.rows("ANALYZE")
    there.rows(_SILENT)
    as_of = there.one("SELECT clock_timestamp()").isoformat()
    units = []
    while there.one(_LEFT) and len(units) < _UNITS:
        units.append(deliver("connections.expire_dead", as_of=as_of))
    if (back := there.one(_BACK)) != JOBS:
        raise RuntimeError(f"{back} of {JOBS} jobs are requeued")
    return units
