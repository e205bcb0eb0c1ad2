"""What a check of the audit is: an invariant, and the query that finds what breaks it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One invariant. Its ids are of what its sentence begins with; an attempt's id is its crawler_job_id."""

    name: str
    meaning: str
    """One sentence, as the invariant says it."""
    query: str
    """Returns the column `id`, of what breaks it, each once; runs in one snapshot with all others."""


def untouched(*tables: str) -> str:
    """
    Whether none of these rows was changed within the grace; one that is missing was not.

    The rows themselves say so, by the transactions that wrote them: the web app need not note when it
    changes a job, and does not.
    """
    return " AND ".join(f"COALESCE(age({table}.xmin) >= :untouched, true)" for table in tables)
