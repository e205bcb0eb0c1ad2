"""
The line `enqueue`: jobs queued per second that the web app inserted itself, 1,000 ids per message of `jobs.enqueue`.

It is timed from the push of all messages to empty queues, including the assignment rounds that the tasks publish;
there is no crawler. The queue entries are counted. Reconcile does not run, since it would find the jobs by itself.
"""

from collections.abc import Iterator

from benchmarks.harness.bed import bed
from benchmarks.harness.drain import seconds_to_handle
from benchmarks.harness.figures import Aim, Figure
from benchmarks.harness.world import HOST, add_accounts
from console.embedded.servers import Services

ROUNDS = 3
MESSAGES, IDS = 40, 1000

_ACCOUNTS = 50

_INSERT = f"""
    INSERT INTO job (id, command, full_path, "accountId", provider, "gitlabGraphQLUrl")
    SELECT 'job-' || n, 'issues', 'group/project-' || n, 'account-' || n %% {_ACCOUNTS}, 'gitlab-cloud',
           'https://{HOST}/api/graphql'
      FROM generate_series(%s::int, %s) n
 RETURNING id
"""

_QUEUED = "SELECT count(*) FROM job_queue WHERE status = 'pending'"


def measure(services: Services) -> Iterator[Figure]:
    """Jobs per second."""
    with bed(services) as there:
        add_accounts(there, _ACCOUNTS)
        rates = []
        with there.workers(CRAWLYARD_RECONCILE_INTERVAL="3600"):
            for number in range(1, ROUNDS + 1):
                last = number * MESSAGES * IDS
                ids = [id_ for (id_,) in there.rows(_INSERT, last - MESSAGES * IDS + 1, last)]
                messages = [{"job_ids": ids[n : n + IDS]} for n in range(0, len(ids), IDS)]
                rates.append(len(ids) / seconds_to_handle(there, "jobs.enqueue", messages))
                if there.one(_QUEUED) != last:
                    raise RuntimeError(f"{there.one(_QUEUED)} jobs are queued, and {last} were inserted")
    yield Figure(f"jobs.enqueue, {IDS:,} ids per message", "jobs/s", rates, aim=Aim(20_000))
