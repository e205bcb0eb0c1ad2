"""
The line `progress`: frames of `job_progress` per second, 500 per message of `crawler.frames`.

In each round, each of 20,000 running jobs reports one page; it is timed from the push of all messages to empty
queues. A message contains the frames of one gateway, in the order of its connections. Afterwards every job must have
reached the page, and no frame may have been stale.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.harness.bed import Bed, bed
from benchmarks.harness.depth import Depth
from benchmarks.harness.drain import seconds_to_handle
from benchmarks.harness.figures import Aim, Figure
from benchmarks.harness.world import add_accounts, progressed, started
from console.embedded.servers import Services

ROUNDS = 3
JOBS, FRAMES = 20_000, 500

_CONNECTIONS, _ACCOUNTS = 5000, 50

_LIVE = "SELECT connection_id, crawler_job_id FROM job_assignment_mapping ORDER BY 1, 2"

_ON_PAGE = """
    SELECT count(*) FROM job JOIN job_assignment_mapping a ON a.web_app_job_id = job.id
     WHERE job.status = 'running' AND a.status = 'running' AND a.stale_words = 0
       AND (job.progress ->> 'currentPage')::int = %s
"""


def measure(services: Services) -> Iterator[Figure]:
    """Frames per second."""
    with bed(services) as there:
        add_accounts(there, _ACCOUNTS)
        depth = Depth(there, f"n % {_ACCOUNTS}")
        depth.connect(_CONNECTIONS)
        depth.occupy(JOBS, _CONNECTIONS)
        rates = []
        with there.workers():
            _send(there, started)
            for page in range(1, ROUNDS + 1):
                rates.append(JOBS / _send(there, partial(progressed, page=page)))
                if there.one(_ON_PAGE, page) != JOBS:
                    raise RuntimeError(f"{there.one(_ON_PAGE, page)} of {JOBS} jobs have reached page {page}")
    yield Figure(f"job_progress, {FRAMES} frames per message", "frames/s", rates, aim=Aim(10_000))


def _send(there: Bed, frame: Callable[[str, str], dict[str, Any]]) -> float:
    """Send a frame for every job, and return the seconds until all were handled."""
    frames = [frame(connection_id, fence) for connection_id, fence in there.rows(_LIVE)]
    messages = [{"frames": frames[n : n + FRAMES]} for n in range(0, len(frames), FRAMES)]
    return seconds_to_handle(there, "crawler.frames", messages)
