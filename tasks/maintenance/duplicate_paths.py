"""
Joins areas and jobs whose paths differ in case alone, as they were made while paths were compared with their case.

`crawlyard migrate` does this in bounded transactions; doing it again changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import get_args

from persistence.areas.spellings import Table
from persistence.exceptions import Contended
from persistence.maintenance.duplicates import AreaAt
from persistence.schema.states import JOB_ENDED
from persistence.unit_of_work import UnitOfWork
from tasks.maintenance.by_command import command_unit, run_unit
from tasks.maintenance.duplicate_jobs import BY_PATH, join_jobs, twofold, unsettled

CHUNK_PATHS = 50
"""Paths whose areas and jobs one transaction joins. For each area, foreign keys read two tables of the web app."""

PAGE_PATHS = 1000
"""Paths that one statement counts."""


@dataclass
class DuplicatePaths:
    """What is there twice, since its paths differ in case alone."""

    areas: int = 0
    """Areas that are joined with another one."""
    jobs: int = 0
    """Jobs that are the same as another one, and are not settled as such yet."""
    to_cancel: int = 0
    """Those of them that have not ended."""


def count_duplicate_paths() -> DuplicatePaths:
    """Note all spellings of paths that are not known yet, and count what `join_duplicate_paths` would change."""
    _note_spellings()
    found = DuplicatePaths()
    for keys in _pages(PAGE_PATHS):
        with command_unit() as uow:
            found.areas += len(merges(uow.duplicates.areas(keys)))
            for group in twofold(uow.duplicates.jobs(keys), BY_PATH):
                others = unsettled(group)
                found.jobs += len(others)
                found.to_cancel += sum(job.status not in JOB_ENDED for job in others)
    return found


def join_duplicate_paths() -> None:
    """
    Point what refers to duplicate areas at the one that stays, and cancel duplicate jobs.

    Raises Contended if other transactions are in the way for too long.
    """
    for keys in _pages(CHUNK_PATHS):
        run_unit(partial(_join, keys=keys))


def merges(areas: Iterable[AreaAt]) -> dict[str, str]:
    """
    The areas that are joined with another one: the path of each, and the path of the one that stays.

    That is the one that GitLab has answered with, else the newest. Areas of different hosts are different.
    """
    by_key: dict[str, list[AreaAt]] = defaultdict(list)
    for area in areas:
        by_key[area.key].append(area)
    found: dict[str, str] = {}
    for group in by_key.values():
        hosts = sorted({area.host for area in group if area.host})
        parts = [[a for a in group if a.host == host] for host in hosts] if len(hosts) > 1 else [group]
        for first, *others in parts:
            found |= {area.full_path: first.full_path for area in others}
    return found


def _join(uow: UnitOfWork, keys: list[str]) -> None:
    join_jobs(uow, keys, BY_PATH)
    _merge_areas(uow, keys)


def _merge_areas(uow: UnitOfWork, keys: list[str]) -> None:
    found = uow.duplicates.areas(keys)
    if merged := merges(found):
        uow.areas.lock([*merged, *merged.values()], [])
        if merges(uow.duplicates.areas(keys)) != merged:
            raise Contended("areas were changed by another transaction")
        uow.areas.merge(merged)


def _pages(size: int) -> Iterator[list[str]]:
    after = ""
    while True:
        with command_unit() as uow:
            keys = uow.duplicates.keys(after, size)
        if keys:
            yield keys
        if len(keys) < size:
            return
        after = keys[-1]


def _note_spellings() -> None:
    for table in get_args(Table):
        place: str | None = ""
        while place is not None:
            with command_unit() as uow:
                place = uow.spellings.note(table, place)
                uow.commit()
