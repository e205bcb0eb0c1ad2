"""
Jobs on their way in: `jobs.submit` creates them, `jobs.enqueue` queues what the web app inserted itself.

Both may be said again at will. A job's identity is its GitLab host, path, branch and command: an
order for one that exists is answered with that job.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter
from ulid import ULID

from persistence.areas import NewArea
from persistence.exceptions import Contended
from persistence.jobs import KnownJob, NewJob
from persistence.queue import NewEntry
from persistence.schema.vocabulary import (
    AREA_TYPE_OF_COMMAND,
    AccountId,
    Command,
    EntryId,
    EventType,
    JobId,
    JobStatus,
    QueueStatus,
)
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.app import app
from tasks.base import derived_id, in_halves, message_id, reject, unit_of_work, valid_items
from tasks.bounds import Id
from tasks.messages import Enqueue, Order, Submit

_ORDER = TypeAdapter(Order)
_ID = TypeAdapter(Id)

_WAITS_FOR_A_CRAWLER = (JobStatus.QUEUED, JobStatus.RUNNING)


@app.task(name="jobs.submit", accepts=Submit)
def submit(payload: Submit) -> None:
    """Create the jobs of these orders and queue them."""
    with unit_of_work() as uow:
        if uow.handled.claim(message_id()):
            orders = [
                Ordered(order, JobId(order.web_app_job_id or derived_id(message_id(), position)))
                for position, order in valid_items(uow, payload.orders, _ORDER)
            ]
            in_halves(
                uow,
                with_known_owners(uow, orders),
                lambda part: submit_orders(uow, part),
                lambda order, why: reject(
                    uow, order.order.model_dump(mode="json"), "refused_by_database", why
                ),
            )
        uow.commit()


@app.task(name="jobs.enqueue", accepts=Enqueue)
def enqueue(payload: Enqueue) -> None:
    """Queue jobs that the web app inserted in its own transaction."""
    with unit_of_work() as uow:
        if uow.handled.claim(message_id()):
            enqueue_jobs(uow, [JobId(id_) for _, id_ in valid_items(uow, payload.job_ids, _ID)])
        uow.commit()


@dataclass(frozen=True)
class Ordered:
    """An order, and the id that its job has or gets."""

    order: Order
    job_id: JobId

    def job(self) -> NewJob:
        """The job to be made."""
        order = self.order
        return NewJob(
            id=self.job_id,
            command=order.asks_for.value,
            full_path=order.namespace_path,
            branch=order.branch,
            account_id=order.account_id,
            user_id=order.user_id,
            provider=order.provider.value,
            graphql_url=f"{order.gitlab_host}/api/graphql",
        )

    def entry(self) -> NewEntry:
        """Its place in the queue."""
        order = self.order
        return NewEntry(
            id=EntryId(str(ULID())),
            job_id=self.job_id,
            account_id=AccountId(order.account_id),
            host=urlsplit(order.gitlab_host).netloc,
            priority=order.priority,
            max_attempts=settings().max_attempts,
            data=self._data(),
            identity=self.identity,
        )

    @property
    def identity(self) -> str | None:
        """What makes it the same job as another; without a path it is like no other."""
        order = self.order
        if order.namespace_path is None:
            return None
        return " ".join((order.asks_for, order.gitlab_host, order.namespace_path, order.branch or ""))

    def area(self) -> NewArea | None:
        """The group or project that it is about, where its GitLab id is known."""
        order, kind = self.order, AREA_TYPE_OF_COMMAND.get(self.order.asks_for)
        if kind is None or order.entity_id is None or order.namespace_path is None:
            return None
        return NewArea(
            full_path=order.namespace_path,
            # Groups and projects are numbered apart, and the column is unique.
            gitlab_id=f"gid://gitlab/{kind.capitalize()}/{order.entity_id}"
            if order.entity_id.isdecimal()
            else order.entity_id,
            name=order.namespace_path.rsplit("/", 1)[-1],
            type=kind,
        )

    def _data(self) -> dict[str, Any]:
        order = self.order
        kept = {"entity_id": order.entity_id, "tags": order.tags, "metadata": order.metadata}
        return {"gitlab_host": order.gitlab_host} | {k: v for k, v in kept.items() if v is not None}


def with_known_owners(uow: UnitOfWork, orders: list[Ordered]) -> list[Ordered]:
    """The orders whose account and user exist, held until the commit; the rest is kept as rejected."""
    accounts = uow.accounts.hold(ordered.order.account_id for ordered in orders)
    users = uow.accounts.hold_users(o.order.user_id for o in orders if o.order.user_id is not None)
    known = []
    for ordered in orders:
        order = ordered.order
        if order.account_id not in accounts:
            reject(uow, order.model_dump(mode="json"), "unknown_account")
        elif order.user_id is not None and order.user_id not in users:
            reject(uow, order.model_dump(mode="json"), "unknown_user")
        else:
            known.append(ordered)
    return known


def submit_orders(uow: UnitOfWork, orders: list[Ordered]) -> None:
    """Make the jobs that are not there yet, queue them, and answer the others with the job that is."""
    existing = _existing(uow, orders)
    fresh = [ordered for ordered in orders if ordered.job_id not in existing]
    _create(uow, fresh)
    collided = []
    for ordered in orders:
        if ordered.job_id not in existing:
            continue
        job_id, same_host = existing[ordered.job_id]
        if same_host:
            _announce(uow, job_id, ordered.order.account_id, existing=True)
            collided.append((job_id, ordered.order))
        else:
            reject(
                uow,
                ordered.order.model_dump(mode="json"),
                "collides_with_another_host",
                f"job {job_id} has the same path, branch and command on another GitLab host",
            )
    _queue_again(uow, [(job_id, order) for job_id, order in collided if order.force])


def _existing(uow: UnitOfWork, orders: list[Ordered]) -> dict[JobId, tuple[JobId, bool]]:
    """By the order's own job id: the job that answers it, and whether it is of the same host."""
    found = {id_: (id_, True) for id_ in uow.jobs.find(ordered.job_id for ordered in orders)}
    twins = uow.jobs.with_identity([ordered.job() for ordered in orders if ordered.job_id not in found])
    seen: dict[str, JobId] = {}
    for ordered in orders:
        if ordered.job_id in found:
            continue
        if ordered.job_id in twins:
            found[ordered.job_id] = twins[ordered.job_id]
        elif (
            ordered.identity is not None
            and seen.setdefault(ordered.identity, ordered.job_id) != ordered.job_id
        ):
            found[ordered.job_id] = (seen[ordered.identity], True)
    return found


def _create(uow: UnitOfWork, orders: Iterable[Ordered]) -> None:
    """
    Insert jobs that were not there when we looked, with their entries and areas.

    Raises Contended where somebody was faster: run again, the unit finds that job.
    """
    orders = list({ordered.job_id: ordered for ordered in orders}.values())
    if not orders:
        return
    made = uow.jobs.insert(ordered.job() for ordered in orders)
    queued = uow.queue.insert(ordered.entry() for ordered in orders)
    if len(made) < len(orders) or len(queued) < len(orders):
        raise Contended("the same jobs were being made by another unit of work")
    areas = {ordered.job_id: area for ordered in orders if (area := ordered.area())}
    uow.areas.add(list({area.full_path: area for area in areas.values()}.values()))
    uow.areas.link({job_id: area.full_path for job_id, area in areas.items()})
    for ordered in orders:
        _announce(uow, ordered.job_id, ordered.order.account_id, existing=False)
    uow.ring("jobs.assign")


def _announce(uow: UnitOfWork, job_id: JobId, account_id: str, *, existing: bool) -> None:
    uow.events.add(EventType.JOB_CREATED, job_id=job_id, account_id=account_id, existing=existing)


def _queue_again(uow: UnitOfWork, forced: list[tuple[JobId, Order]]) -> None:
    """Queue existing jobs again; one that waits or is worked on is left as it is."""
    wanted = dict(forced)
    if not wanted:
        return
    entries = uow.queue.lock(wanted)
    jobs = uow.jobs.lock(wanted)
    ended = {id_ for id_, job in jobs.items() if job.status not in _WAITS_FOR_A_CRAWLER}
    for forget in (True, False):
        uow.jobs.requeue({id_ for id_ in ended if wanted[id_].resume is not forget}, forget=forget)
    uow.queue.revive(ended & entries.keys())
    uow.queue.insert(_entry_of(jobs[id_]) for id_ in ended - entries.keys())
    for id_ in sorted(ended):
        uow.events.add(
            EventType.JOB_UPDATED, job_id=id_, account_id=jobs[id_].account_id, status=JobStatus.QUEUED
        )
    uow.ring("jobs.assign")


def enqueue_jobs(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    """
    Queue jobs that are there, queued and without a runnable entry; the others are left as they are.

    One that ended before and was set to queued again by the web app starts with nothing counted
    against it.
    """
    entries = uow.queue.lock(job_ids)
    jobs = uow.jobs.hold(job_ids)
    for id_, job in jobs.items():
        if job.command == Command.AUTHORIZATION_SCOPE:
            reject(uow, id_, "own_command", "authorizationScope is never sent to a crawler")
    waiting = {
        id_: job
        for id_, job in jobs.items()
        if job.status is JobStatus.QUEUED and job.command != Command.AUTHORIZATION_SCOPE
    }
    settled = {
        id_
        for id_, entry in entries.items()
        if entry.held or entry.status in (QueueStatus.COMPLETED, QueueStatus.FAILED)
    }
    revived = waiting.keys() & settled
    uow.queue.revive(revived)
    new = uow.queue.insert(_entry_of(job) for id_, job in waiting.items() if id_ not in entries)
    for id_ in sorted(new):
        _announce(uow, id_, waiting[id_].account_id, existing=False)
    if new or revived:
        uow.ring("jobs.assign")


def _entry_of(job: KnownJob) -> NewEntry:
    """The place in the queue of a job that the web app made: nothing is known but its row."""
    return NewEntry(
        id=EntryId(str(ULID())),
        job_id=job.id,
        account_id=job.account_id,
        host=job.host,
        priority=1,
        max_attempts=settings().max_attempts,
    )
