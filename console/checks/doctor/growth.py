"""The doctor's examination of what may only grow so far: how near it is to its bound."""

from sqlalchemy import Connection

from console.checks.doctor.finding import Finding, judged
from persistence.reports.growth import NEAR, Size, near_bounds
from persistence.settings import variable_of

_WHAT = {
    "max_connections": "open connections",
    "max_areas": "areas",
    "max_rejected": "rejected messages",
    "max_rejected_bytes": "bytes of rejected messages",
    "max_handled": "ids of handled messages",
    "max_errors": "rows of the error log",
    "max_area_changes": "changes of areas",
    "max_events": "events",
    "max_closed_connections": "closed connections",
    "max_areas_per_account": "areas of account",
    "max_waiting": "waiting jobs of account",
    "pending_cap": "waiting jobs of account",
    "max_deferred": "deferred jobs of account",
}


def examine_growth(connection: Connection) -> Finding:
    """Examine what has a bound; what may wait up to CRAWLYARD_PENDING_CAP is meant to reach it."""
    near = [size for size in near_bounds(connection) if size.setting != "pending_cap"]
    names = dict.fromkeys(variable_of(size.setting) for size in near)
    return judged(
        "growth",
        "; ".join(map(_described, near)) or f"everything is below {NEAR:.0%} of its bound",
        good=not near,
        remedy=f"See what grows, or raise {', '.join(names)}: beyond it new ones are refused, deferred or counted, "
        "and the oldest of what is kept for a time are deleted (docs/settings.md).",
        otherwise="warning",
    )


def _described(size: Size) -> str:
    whose = "" if size.account_id is None else f" {size.account_id}"
    return f"{size.rows:,} {_WHAT[size.setting]}{whose}, of at most {size.most:,}"
