"""
Brings stored names of GitLabs to what they are now: after `crawlyard gitlab moved`, and of spellings from before.

The commands run this in bounded transactions. Interrupted or run again it goes on, since what has its name already is
left alone. Everything that is compared is read by the present names meanwhile, so that no moment is wrong.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import sleep

from persistence.exceptions import IllegalRequestError
from persistence.jobs.identity import identity_of
from persistence.origin import GITLAB_COM, is_confidential, origin_of
from persistence.origins.aliases import AGE_S
from persistence.origins.configured import allowed_origins
from persistence.origins.names import StoredEntry
from persistence.schema.event_types import EventType
from persistence.schema.gitlabs import gitlab_of, host_of, known_host, url_of
from persistence.schema.ids import AccountId, JobId
from persistence.schema.paths import path_key
from persistence.unit_of_work import UnitOfWork
from tasks.jobs.locking import lock_jobs
from tasks.maintenance.by_command import command_unit, run_unit
from tasks.maintenance.duplicate_jobs import BY_URL, join_jobs, twofold, unsettled

CHUNK_ACCOUNTS = 1000
CHUNK_ENTRIES = 5000
"""Entries that one statement looks through."""
CHUNK_JOBS = 500
"""Jobs that one transaction locks and changes."""
CHUNK_AREAS = 5000
CHUNK_PATHS = 50
"""Paths at which one transaction cancels jobs."""


@dataclass
class Carried:
    """What got the present name of its GitLab."""

    accounts: int = 0
    jobs: int = 0
    areas: int = 0
    cancelled: int = 0
    """Jobs that were there twice, under two URLs of one GitLab."""


Report = Callable[[Carried], None]
"""Is called after each chunk."""


@dataclass
class _Run:
    report: Report
    checked: frozenset[str] = frozenset()
    """GitLabs whose rows are looked at although their URLs are plain: their former names may be stored."""
    carried: Carried = field(default_factory=Carried)
    urls: set[str] = field(default_factory=set)
    """The URLs of the jobs that were met."""


def check_move(former: str, origin: str) -> tuple[str, str]:
    """
    Return the two origins of a move, in their one spelling.

    Raises IllegalRequestError if one is none, both are the same, or tokens must not go there.
    """
    moved, target = _origin(former), _origin(origin)
    if moved == target:
        raise IllegalRequestError(f"{former} and {origin} are one GitLab, {target}: nothing has moved")
    if GITLAB_COM in (moved, target):
        raise IllegalRequestError(
            f"{GITLAB_COM} is the GitLab of all accounts of gitlab-cloud and does not move"
        )
    if not is_confidential(target) and target not in allowed_origins():
        raise IllegalRequestError(
            f"{target} is not https: tokens could be read on the way. If they may, name it in CRAWLYARD_ALLOWED_ORIGINS"
        )
    return moved, target


def move_gitlab(former: str, origin: str, report: Report, wait: Callable[[float], None] = sleep) -> Carried:
    """
    Note that the GitLab at *former* is at *origin* now, and give everything its new name.

    Both are origins in their one spelling. Raises IllegalRequestError if *origin* itself has moved to a third place,
    and Contended if other transactions are in the way for too long.
    """
    is_new = False

    def note(uow: UnitOfWork) -> None:
        nonlocal is_new
        uow.gitlab_aliases.lock()
        aliases = uow.gitlab_aliases.load()
        if aliases.get(origin, former) != former:
            raise IllegalRequestError(f"{origin} has moved to {aliases[origin]}: name that instead")
        if is_new := uow.gitlab_aliases.add(former, origin):
            uow.events.add(EventType.GITLAB_MOVED, origin=former, moved_to=origin)

    run_unit(note)
    if is_new:
        wait(AGE_S)  # until every worker knows it
    with command_unit() as uow:
        uow.gitlab_aliases.load()
        uow.round_lock.wait()  # for the round that has read the former name
    return carry_names(report, frozenset({former, origin}))


def carry_names(report: Report = lambda _: None, checked: frozenset[str] = frozenset()) -> Carried:
    """
    Give everything that is stored the present names of GitLabs; returns how much had another one.

    *checked* are GitLabs whose former names may be stored although they have no alias any more.
    """
    run = _Run(report, checked)
    with command_unit() as uow:
        aliases = uow.gitlab_aliases.load()
    for former, origin in sorted(aliases.items()):
        _carry_accounts(run, former, origin)
    _carry_entries(run)
    _note_urls(run)
    _carry_areas(run)
    run_unit(lambda uow: uow.gitlab_aliases.mark_carried(sorted(aliases)))
    return run.carried


def _origin(url: str) -> str:
    origin = origin_of(url)
    if origin is None:
        raise IllegalRequestError(f"{url!r} is not the URL of a GitLab, such as https://gitlab.example.org")
    return origin


def _carry_accounts(run: _Run, former: str, origin: str) -> None:
    """Bind the accounts of a GitLab that moved to where it is now."""
    while True:
        with command_unit() as uow:
            ids = uow.origins.bound_to(former, "", CHUNK_ACCOUNTS)
        if not ids:
            return
        run_unit(partial(_bind, ids=ids, former=former, origin=origin))
        run.carried.accounts += len(ids)
        run.report(run.carried)


def _bind(uow: UnitOfWork, ids: list[AccountId], former: str, origin: str) -> None:
    uow.account_queues.open(ids)
    uow.account_queues.lock(ids)  # a refresh of the tokens decides under this lock
    uow.origins.carry(ids, former, origin)


def _carry_entries(run: _Run) -> None:
    """Give entries, their identities, and live attempts the hosts of their jobs' URLs."""
    after: str | None = ""
    while after is not None:
        with command_unit() as uow:
            last, urls = uow.gitlab_names.urls(after, CHUNK_ENTRIES)
            run.urls.update(urls)
            spelled = [url for url in urls if url_of(url) != url or gitlab_of(url) in run.checked]
            entries = uow.gitlab_names.entries(after, last, spelled) if last and spelled else []
        wrong = sorted(entry.id for entry in entries if _is_misnamed(entry))
        for start in range(0, len(wrong), CHUNK_JOBS):
            run_unit(partial(_rename_jobs, job_ids=wrong[start : start + CHUNK_JOBS]))
            run.carried.jobs += len(wrong[start : start + CHUNK_JOBS])
            run.report(run.carried)
        _cancel_duplicates(run, sorted({path_key(one.full_path) for one in entries if one.full_path}))
        after = last


def _cancel_duplicates(run: _Run, keys: list[str]) -> None:
    """Cancel all but one of the jobs at these paths that are the same under two URLs of one GitLab."""
    for start in range(0, len(keys), CHUNK_PATHS):
        chunk = keys[start : start + CHUNK_PATHS]
        with command_unit() as uow:
            groups = twofold(uow.duplicates.jobs(chunk), BY_URL)
        if any(unsettled(group) for group in groups):
            run_unit(partial(_cancel, run=run, keys=chunk))
            run.report(run.carried)


def _cancel(uow: UnitOfWork, run: _Run, keys: list[str]) -> None:
    run.carried.cancelled += join_jobs(uow, keys, BY_URL)


def _is_misnamed(entry: StoredEntry) -> bool:
    return entry.host != host_of(entry.url) or entry.identity not in (None, identity_of(entry))


def _rename_jobs(uow: UnitOfWork, job_ids: Collection[JobId]) -> None:
    locked = lock_jobs(uow, job_ids)
    uow.gitlab_spellings.note(job.graphql_url for job in locked.jobs.values())
    uow.entries.set_hosts({id_: job.host for id_, job in locked.jobs.items()})
    hosts = {
        fence: locked.jobs[attempt.job_id].host
        for fence, attempt in locked.attempts.items()
        if attempt.job_id in locked.jobs and attempt.host != locked.jobs[attempt.job_id].host
    }
    uow.attempts.set_hosts(hosts, locked.attempts)
    uow.identities.follow(locked.entries.keys())


def _note_urls(run: _Run) -> None:
    """Note the hosts of URLs for statements that read them, those anew that were noted before."""

    def note(uow: UnitOfWork) -> None:
        uow.gitlab_spellings.note({*run.urls, *uow.gitlab_names.spelled_urls()})

    run_unit(note)


def _carry_areas(run: _Run) -> None:
    """Give areas the present hosts of their GitLabs."""
    after = ""
    while True:
        with command_unit() as uow:
            hosts = uow.gitlab_names.areas(after, CHUNK_AREAS)
        for (former, host), paths in _renamed(hosts).items():
            run_unit(partial(_rename_host, former=former, host=host, paths=paths))
            run.carried.areas += len(paths)
            run.report(run.carried)
        if len(hosts) < CHUNK_AREAS:
            return
        *_, after = hosts


def _renamed(hosts: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """The paths of areas whose host has another name, by the stored host and that name."""
    renamed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, former in hosts.items():
        host = known_host(former)
        if host and host != former:
            renamed[former, host].append(path)
    return renamed


def _rename_host(uow: UnitOfWork, former: str, host: str, paths: list[str]) -> None:
    uow.areas.rename_host(former, host, paths)
