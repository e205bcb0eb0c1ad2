"""The error log: every attempt that ended without success has an error."""

from persistence.audit.checks.check import Check
from persistence.schema.sql import fragment

CHECKS = (
    Check(
        "failure_on_record",
        "An attempt that failed or was cancelled has an error in the error log, for as long as errors are kept.",
        fragment("""
            SELECT a.crawler_job_id AS id FROM job_assignment_mapping a
             WHERE a.status IN ($attempt_failed, $attempt_cancelled) AND a.connection_id IS NOT NULL
               AND a.completed_at > now() - CAST(:keep_errors AS interval)
               AND NOT EXISTS (SELECT FROM job_error_log e
                                WHERE e.job_id = a.web_app_job_id
                                  AND e.context ->> 'crawler_job_id' = a.crawler_job_id)
        """),
    ),
)
