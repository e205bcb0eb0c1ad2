"""A check of the audit: an invariant, and the query that finds what breaks it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One invariant. Its ids are ids of the subject of its sentence; the id of an attempt is its crawler_job_id."""

    name: str
    meaning: str
    """The invariant, in one sentence."""
    query: str
    """
    Returns the column `id`, once for each row that breaks the invariant.

    A part of a statement (`fragment`), which the audit counts and limits. All checks run in one snapshot.
    """


def untouched(*tables: str) -> str:
    """
    SQL that is true if none of these rows was changed within the grace; a missing row was not.

    The transactions that wrote the rows tell: the web app sets no time when it changes a job.
    """
    return " AND ".join(f"COALESCE(age({table}.xmin) >= :untouched, true)" for table in tables)
