"""Steps over what a command selects: a thousand at a time, each unit behind the one before."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from persistence.jobs.selection import Choice
from persistence.schema.ids import JobId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Selection
from tasks.runtime.chunks import ChunkResult, Step

CHUNK_JOBS = 1000
"""Jobs that one unit changes at most."""

MAX_PASSES = 5
"""
Walks of a command that closes attempts, at most: it looks until it finds nothing.

A discovery that was being applied meanwhile has left children behind the walk, and nobody looks for them
later. With its attempt closed it leaves no more; what is ordered all the time must not keep us for ever.
"""

ChangeJobs: TypeAlias = Callable[[UnitOfWork, list[JobId]], None]
Value: TypeAlias = datetime | int | None

_OF_DEFERRED = ("account_id", "area", "subtree_of")
"""Nobody knows the id of a deferred job."""


def step_over_jobs(selection: Selection, state: str, change: ChangeJobs, **values: Value) -> Step:
    """
    *change* the jobs of the selection that are in *state*, a condition of persistence.selection.

    They were found without a lock: what is not so any more under it, is not to be changed.
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
    *change* the deferred jobs of the selection that are in *state*.

    Comes before the jobs: what is fed in meanwhile is one of them by then.
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
