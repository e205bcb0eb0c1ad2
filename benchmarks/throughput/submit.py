"""
The line `submit`: jobs created per second from orders, 500 per message of `jobs.submit`.

It is timed from the push of all messages to empty queues, including the assignment rounds that the tasks publish;
there is no crawler. The jobs with a queue entry are counted.
"""

from collections.abc import Iterator
from itertools import islice

from benchmarks.harness.bed import bed
from benchmarks.harness.drain import seconds_to_handle
from benchmarks.harness.figures import Aim, Figure
from benchmarks.harness.world import add_accounts, orders
from console.embedded.servers import Services

ROUNDS = 3
MESSAGES, ORDERS = 40, 500

_ACCOUNTS = 50

_QUEUED = "SELECT count(*) FROM job JOIN job_queue q ON q.web_app_job_id = job.id WHERE q.status = 'pending'"


def measure(services: Services) -> Iterator[Figure]:
    """Jobs per second."""
    with bed(services) as there:
        rest = orders(add_accounts(there, _ACCOUNTS))
        rates = []
        with there.workers():
            for number in range(1, ROUNDS + 1):
                messages = [{"orders": list(islice(rest, ORDERS))} for _ in range(MESSAGES)]
                rates.append(MESSAGES * ORDERS / seconds_to_handle(there, "jobs.submit", messages))
                if there.one(_QUEUED) != number * MESSAGES * ORDERS:
                    raise RuntimeError(f"{there.one(_QUEUED)} jobs are queued after {number} rounds")
    yield Figure(f"jobs.submit, {ORDERS} orders per message", "jobs/s", rates, aim=Aim(8000))
