"""The error log: no attempt ends in vain without a trace."""

from persistence.audit.checks.check import Check

CHECKS = (
    Check(
        "failure_on_record",
        "An attempt that failed or was cancelled has an error on record, for as long as errors are kept.",
        """
        SELECT a.crawler_job_id AS id FROM job_assignment_mapping a
         WHERE a.status IN ('failed', 'cancelled') AND a.connection_id IS NOT NULL
           AND a.completed_at > now() - CAST(:keep_errors AS interval)
           AND NOT EXISTS (SELECT FROM job_error_log e
                            WHERE e.job_id = a.web_app_job_id AND e.context ->> 'crawler_job_id' = a.crawler_job_id)
        """,
    ),
)
