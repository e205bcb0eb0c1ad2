"""
Audits a demo: compares the order log with the database, and sums up how the demo went.

The invariants that every database must satisfy are checked too, by the audit.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text

from console.demo.checks import CHECKS
from console.simulator.order_log import OrderLog
from persistence.audit.audit import Fault, audit, run_check
from persistence.schema.sql import sql
from persistence.settings import Settings

_SUMS = sql("""
    SELECT (SELECT count(*) FROM job WHERE status = $job_finished) AS finished,
           (SELECT count(*) FROM job WHERE status = $job_failed) AS failed,
           (SELECT count(*) FROM job WHERE status = $job_cancelled) AS cancelled,
           (SELECT count(*) FROM job WHERE status NOT IN $job_ended) AS open,
           (SELECT count(*) FROM job_assignment_mapping) AS attempts,
           (SELECT count(*) FROM job_error_log e JOIN job_assignment_mapping a
                ON a.crawler_job_id = e.context ->> 'crawler_job_id'
             WHERE error_type IN ('ConnectionLost', 'Stalled', 'NeverStarted', 'Disowned')) AS losses,
           (SELECT count(*) FROM job_error_log WHERE error_type = 'Goodbye') AS goodbyes,
           (SELECT count(*) FROM job_error_log WHERE error_type = 'Cancelled') AS revoked,
           (SELECT count(*) FROM job_error_log WHERE error_type = 'CredentialExpired') AS tokens_died,
           (SELECT count(*) FROM dispatch_event WHERE type = 'credential_renewed') AS tokens_renewed,
           (SELECT count(*) FROM job_assignment_mapping a
             WHERE EXISTS (SELECT FROM job_assignment_mapping earlier
                            WHERE earlier.web_app_job_id = a.web_app_job_id AND earlier.id < a.id)) AS retries,
           (SELECT count(*) FROM job_error_log) AS errors,
           (SELECT COALESCE(sum(stale_words), 0)::int FROM job_assignment_mapping) AS stale_words,
           (SELECT count(*) FROM job_error_log e WHERE strpos(e::text, '[redacted]') > 0) AS redacted,
           (SELECT count(*) FROM dispatch_event) AS events
""")

_PACE = text("""
    SELECT extract(epoch FROM max(finished_at) - min(created_at))::float AS seconds,
           extract(epoch FROM percentile_disc(0.9) WITHIN GROUP (ORDER BY finished_at) - min(created_at))::float
               AS seconds_of_nine_tenths
      FROM job WHERE finished_at IS NOT NULL
""")


@dataclass(frozen=True)
class DemoAudit:
    """The faults that were found, and the figures of the demo."""

    ordered: int
    discovered: int
    """Jobs that were spawned by the discovery."""
    sums: dict[str, int]
    """Counts of jobs by outcome, and of what happened to them; the keys are those of the JSON summary."""
    seconds: float
    """From the creation of the first job to the end of the last one."""
    seconds_of_nine_tenths: float
    """To the end of nine jobs in ten, without the few that had to wait until a dead crawler was noticed."""
    faults: list[Fault]

    @property
    def jobs(self) -> int:
        """All jobs, ordered and discovered."""
        return self.ordered + self.discovered

    @property
    def is_consistent(self) -> bool:
        """True if no fault was found."""
        return not self.faults

    @property
    def throughput(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds if self.seconds else 0.0

    @property
    def main_throughput(self) -> float:
        """Jobs per second, of the nine in ten that ended first."""
        return 0.9 * self.jobs / self.seconds_of_nine_tenths if self.seconds_of_nine_tenths else 0.0


def audit_demo(
    connection: Connection,
    order_log: OrderLog,
    stale_fences: Collection[str] = (),
    worker_settings: Settings | None = None,
    *,
    undelivered_fences: Collection[str] = (),
    gone_connections: Collection[str] | None = None,
    at_rest: bool = False,
) -> DemoAudit:
    """
    Check the database against the order log and against its own invariants, in the caller's snapshot.

    *stale_fences* are the attempts for which a crawler sent frames after its connection had expired, and
    *undelivered_fences* those of which no worker saw one. *gone_connections* are those whose crawlers died or froze, if
    that is known.
    Call this when no frames are in transit: they are not accounted for. *worker_settings* are the settings of the
    workers, by default those of this process; *at_rest* is as for `audit`.
    """
    values = {
        "ordered": list(order_log.ordered),
        "discovery": order_log.discovery,
        "paths": [path for path, _ in order_log.discovered],
        "commands": [command for _, command in order_log.discovered],
        "may_be_cancelled": list(order_log.asked_to_cancel | order_log.cancelled_by_update),
        "cancelled_by_update": list(order_log.cancelled_by_update),
        "tokens": order_log.tokens,
        "stale": list(stale_fences),
        "undelivered": list(undelivered_fences),
        "gone": None if gone_connections is None else list(gone_connections),
    }
    found = (run_check(connection, check, values) for check in CHECKS)
    pace = connection.execute(_PACE).one()
    return DemoAudit(
        ordered=len(order_log.ordered),
        discovered=len(order_log.discovered),
        sums=dict(connection.execute(_SUMS).one()._mapping),  # noqa: SLF001 - public in spite of its name
        seconds=pace.seconds or 0.0,
        seconds_of_nine_tenths=pace.seconds_of_nine_tenths or 0.0,
        faults=[fault for fault in found if fault]
        + audit(connection, worker_settings=worker_settings, at_rest=at_rest),
    )
