"""Steps of a command over the jobs that it selects: a chunk of them per unit of work, in id order."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from persistence.jobs.selection import Choice
from persistence.schema.ids import JobId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Selection
from tasks.runtime.chunks import ChunkResult, Step

CHUNK_JOBS = 1000
"""Jobs that one unit of work changes at most."""

MAX_PASSES = 5
"""
Passes over its selection that a command makes at most which closes attempts: it repeats until nothing changes.

A discovery that is applied at the same time creates children that the first pass has already gone by, and nothing
would find them later. Once its attempt is closed it creates no more. The bound is for a selection to which new jobs
are submitted all the time.
"""

ChangeJobs: TypeAlias = Callable[[UnitOfWork, list[JobId]], None]
Value: TypeAlias = datetime | int | None

_OF_DEFERRED = ("account_id", "area", "subtree_of")
"""The kinds of selection that can include deferred jobs; their ids are not known outside."""


def step_over_jobs(selection: Selection, state: str, change: ChangeJobs, **values: Value) -> Step:
    """
    Apply *change* to the jobs of the selection that meet *state*, a condition of persistence/jobs/selection.py.

    They are found without a lock: *change* locks them, and leaves out the jobs that no longer meet it.
    """
    choice = Choice(*selection.choice)

    def step(uow: UnitOfWork, place: str) -> ChunkResult:
        page = uow.selections.jobs(choice, state, place, CHUNK_JOBS, values)
        if page.ids:
            change(uow, page.ids)
        return ChunkResult(len(page.ids), page.place)

    return step


def step_over_deferred(selection: Selection, state: str, change: ChangeJobs, **values: Value) -> Step:
    """
    Apply *change* to the deferred jobs of the selection that meet *state*.

    This step comes before the jobs: a deferred job that is fed meanwhile is found among them.
    """
    choice = Choice(*selection.choice)

    def step(uow: UnitOfWork, place: str) -> ChunkResult:
        if choice.kind not in _OF_DEFERRED:
            return ChunkResult()
        page = uow.selections.deferred(choice, state, place, CHUNK_JOBS, values)
        if page.ids:
            change(uow, page.ids)
        return ChunkResult(len(page.ids), page.place)

    return step
