"""Creates accounts, crawlers, orders and frames, in the forms that the contract defines."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ulid import ULID

from benchmarks.harness.bed import Bed

HOST = "gitlab.example.org"

_ACCOUNTS = """
    INSERT INTO account (id, access_token)
    SELECT 'account-' || n, 'glpat-' || md5(n::text) FROM generate_series(0, %s - 1) n
"""

_BIND = "INSERT INTO account_origin (account_id, origin, bound_by) SELECT unnest(%s::text[]), %s, 'operator'"
"""Before their first order, since jobs are also inserted in SQL."""

_CRAWLERS = "INSERT INTO socket_connection (id, capacity) SELECT unnest(%s::text[]), %s"


def add_accounts(bed: Bed, count: int) -> list[str]:
    """Insert accounts, and return their ids."""
    bed.rows(_ACCOUNTS, count)
    accounts = [f"account-{n}" for n in range(count)]
    bed.rows(_BIND, accounts, f"https://{HOST}")
    return accounts


def add_crawlers(bed: Bed, count: int, capacity: int) -> list[str]:
    """Insert active connections without events, and return their ids."""
    ids = [str(ULID()) for _ in range(count)]
    bed.rows(_CRAWLERS, ids, capacity)
    return ids


def orders(accounts: list[str], first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield orders without end, for the accounts in turn, each for a different project."""
    number = first
    while True:
        yield {
            "account_id": accounts[number % len(accounts)],
            "provider": "gitlab-cloud",
            "gitlab_host": HOST,
            "command": "issues",
            "namespace_path": f"group-{number % 1000}/project-{number}",
            "web_app_job_id": str(ULID()),
        }
        number += 1


def started(connection_id: str, fence: str) -> dict[str, Any]:
    """The frame of a crawler that has started a job."""
    return _frame("job_started", connection_id, fence, {})


def progressed(connection_id: str, fence: str, page: int = 1, message: str | None = None) -> dict[str, Any]:
    """The frame of a crawler that reports progress."""
    data = {
        "stage": "fetching",
        "entityType": "issue",
        "processed": 20 * page,
        "total": 100,
        "message": message or f"page {page} of 5",
        "currentPage": page,
        "resumeState": {"currentPage": page, "entityType": "issue"},
    }
    return _frame("job_progress", connection_id, fence, data)


def completed(connection_id: str, fence: str) -> dict[str, Any]:
    """The frame of a crawler that has completed a job."""
    return _frame("job_completed", connection_id, fence, {"success": True, "finalCounts": {"issue": 100}})


def failed(connection_id: str, fence: str, trace: str) -> dict[str, Any]:
    """The frame of a crawler whose job has failed and may be retried."""
    data = {"error": "it broke", "errorType": "CrawlFailed", "isRecoverable": True, "stackTrace": trace}
    return _frame("job_failed", connection_id, fence, data)


def requested(connection_id: str, capacity: int) -> dict[str, Any]:
    """The frame of a crawler that requests up to *capacity* jobs at a time."""
    frame = {
        "type": "job_request",
        "timestamp": datetime.now(UTC).isoformat(),
        "data": {"capacity": capacity},
    }
    return {"connection_id": connection_id, "frame": frame}


def _frame(kind: str, connection_id: str, fence: str, data: dict[str, Any]) -> dict[str, Any]:
    frame = {"type": kind, "timestamp": datetime.now(UTC).isoformat(), "jobId": fence, "data": data}
    return {"connection_id": connection_id, "frame": frame}
