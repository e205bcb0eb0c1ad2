"""
The task `jobs.submit`: creates the jobs of orders and queues them. It may be sent again at any time.

An order for a job that exists, as persistence/jobs/identity.py defines it, is answered with that job.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter
from ulid import ULID

from persistence.areas.areas import NewArea
from persistence.jobs.entries import NewEntry
from persistence.jobs.identity import identity
from persistence.jobs.jobs import KnownJob, NewJob
from persistence.origin import graphql_url
from persistence.sanitize.json_values import redact
from persistence.sanitize.text import redact_text
from persistence.schema.commands import AREA_TYPE_OF_COMMAND, Command
from persistence.schema.gitlabs import host_of
from persistence.schema.ids import EntryId, JobId, area_id
from persistence.schema.paths import path_key
from persistence.schema.states import JOB_CRAWLABLE, JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Order, Submit
from tasks.jobs.enqueue import announce_created, is_rediscovery_due, queue_new, requeue_ended
from tasks.jobs.locking import lock_jobs
from tasks.jobs.transitions import revoke
from tasks.runtime.batches import bisect_on_refusal, derived_id
from tasks.runtime.task import task
from tasks.runtime.unit import message_id
from tasks.sanitize.refused import RefusedItems

_ORDER = TypeAdapter(Order)


@task(name="jobs.submit", accepts=Submit)
def submit(payload: Submit) -> None:
    """Create the jobs of these orders and queue them."""
    message = message_id()
    refused = RefusedItems(payload.orders, message)
    orders = [
        OrderedJob.of(order, JobId(order.web_app_job_id or derived_id(message, position)), position)
        for position, order in refused.valid(_ORDER)
    ]
    refused.apply(
        lambda uow: bisect_on_refusal(
            uow,
            with_known_owners(uow, orders, refused),
            lambda part: submit_orders(uow, part, refused),
            lambda order, why: refused.claim(uow, order.position, "refused_by_database", why),
        )
    )


@dataclass(frozen=True)
class OrderedJob:
    """An order, and the id of its job if that is new."""

    order: Order
    job_id: JobId
    data: dict[str, Any]
    """What `job_queue.data` keeps of it, redacted."""
    position: int
    """Where it stands in its message."""

    @classmethod
    def of(cls, order: Order, job_id: JobId, position: int = 0) -> "OrderedJob":
        """Redact its texts, before a transaction begins."""
        kept = {
            "entity_id": order.entity_id,
            "tags": order.tags and [redact_text(tag) for tag in order.tags],
            "metadata": redact(order.metadata),
        }
        data = {"gitlab_host": order.gitlab_host} | {k: v for k, v in kept.items() if v is not None}
        return cls(order, job_id, data, position)

    @cached_property
    def job(self) -> NewJob:
        """The job to be made."""
        order = self.order
        return NewJob(
            id=self.job_id,
            command=order.requested_command.value,
            full_path=order.namespace_path,
            branch=order.branch,
            account_id=order.account_id,
            user_id=order.user_id,
            provider=order.provider.value,
            graphql_url=graphql_url(order.gitlab_host),
        )

    @cached_property
    def identity(self) -> str | None:
        """What makes it the same job as another one; None if no other can be."""
        return identity(self.job)

    def entry(self) -> NewEntry:
        """Its place in the queue."""
        order, job = self.order, self.job
        return NewEntry(
            id=EntryId(str(ULID())),
            job_id=self.job_id,
            host=host_of(job.graphql_url),
            priority=order.priority,
            max_attempts=settings().max_attempts,
            data=self.data,
            identity=self.identity,
        )

    def area(self) -> NewArea | None:
        """The group or project that the job is about; None if its GitLab id is not known."""
        order, kind = self.order, AREA_TYPE_OF_COMMAND.get(self.order.requested_command)
        if kind is None or order.entity_id is None or order.namespace_path is None:
            return None
        return NewArea(
            full_path=order.namespace_path,
            gitlab_id=area_id(order.provider, kind, order.entity_id),
            name=order.namespace_path.rsplit("/", 1)[-1],
            type=kind,
        )


@dataclass(frozen=True)
class ExistingJob:
    """The job that an order asks for and that exists already."""

    job_id: JobId
    is_same_host: bool


def with_known_owners(uow: UnitOfWork, orders: list[OrderedJob], refused: RefusedItems) -> list[OrderedJob]:
    """The orders whose account and user exist, which are locked until the commit; the others are rejected."""
    accounts = uow.accounts.lock_key_share(ordered.order.account_id for ordered in orders)
    users = uow.accounts.lock_users_key_share(o.order.user_id for o in orders if o.order.user_id is not None)
    known = []
    for ordered in orders:
        order = ordered.order
        if order.account_id not in accounts:
            refused.claim(uow, ordered.position, "unknown_account")
        elif order.user_id is not None and order.user_id not in users:
            refused.claim(uow, ordered.position, "unknown_user")
        else:
            known.append(ordered)
    return known


def submit_orders(uow: UnitOfWork, orders: list[OrderedJob], refused: RefusedItems) -> None:
    """
    Create and queue the jobs that do not exist yet, and answer the other orders with the job that does.

    Existing jobs are looked up before the insert, since the shared index allows several jobs without a branch, and
    once more after it, in case another transaction was faster.
    """
    existing = _existing(uow, orders)
    created = _create(uow, _distinct(ordered for ordered in orders if ordered.job_id not in existing))
    answered = {id(ordered) for ordered in created}
    others = [ordered for ordered in orders if id(ordered) not in answered]
    existing |= _existing(uow, [ordered for ordered in others if ordered.job_id not in existing])
    _answer(uow, others, existing, refused)


def _existing(uow: UnitOfWork, orders: list[OrderedJob]) -> dict[JobId, ExistingJob]:
    """The jobs that exist already, with the same id or the same identity, by the job id of the order."""
    if not orders:
        return {}
    found = {id_: ExistingJob(id_, is_same_host=True) for id_ in uow.jobs.find(o.job_id for o in orders)}
    jobs = [ordered.job for ordered in orders if ordered.job_id not in found]
    discoveries = uow.identities.account_discoveries(jobs)
    found |= {id_: ExistingJob(twin, is_same_host=True) for id_, twin in discoveries.items()}
    twins = uow.identities.twins_of_jobs(jobs)
    return found | {id_: ExistingJob(twin.id, twin.is_same_host) for id_, twin in twins.items()}


def _distinct(orders: Iterable[OrderedJob]) -> list[OrderedJob]:
    """The first order of each identity, and of each id."""
    firsts: dict[str, OrderedJob] = {}
    for ordered in orders:
        firsts.setdefault(ordered.identity or ordered.job_id, ordered)
    return list(reversed({ordered.job_id: ordered for ordered in reversed(firsts.values())}.values()))


def _create(uow: UnitOfWork, orders: list[OrderedJob]) -> list[OrderedJob]:
    """Insert jobs with their entries and areas; returns the orders whose job is new."""
    if not orders:
        return []
    # Areas first: a discovery of the same areas locks them before it creates jobs.
    uow.spellings.add(ordered.order.namespace_path for ordered in orders)
    uow.gitlab_spellings.note(graphql_url(ordered.order.gitlab_host) for ordered in orders)
    areas = {ordered.job_id: area for ordered in orders if (area := ordered.area())}
    _add_areas(uow, areas, {ordered.job_id: ordered.order.gitlab_host for ordered in orders})
    ids = uow.jobs.insert(ordered.job for ordered in orders)
    created = [ordered for ordered in orders if ordered.job_id in ids]
    queue_new(uow, [o.job for o in created], {ordered.job_id: ordered.entry() for ordered in created})
    uow.areas.link({job_id: area.full_path for job_id, area in areas.items() if job_id in ids})
    for ordered in created:
        announce_created(uow, ordered.job_id, ordered.order.account_id, existing=False)
    uow.publish("jobs.assign")
    return created


def _add_areas(uow: UnitOfWork, areas: dict[JobId, NewArea], origins: dict[JobId, str]) -> None:
    """Add the areas of new jobs; of paths on one GitLab that differ in case alone, the first."""
    new: dict[tuple[str, str], NewArea] = {}
    for job_id, area in areas.items():
        new.setdefault((path_key(area.full_path), origins[job_id]), area)
    urls = {area.full_path: graphql_url(origin) for (_, origin), area in new.items()}
    uow.areas.add(list(new.values()), urls)


def _answer(
    uow: UnitOfWork,
    orders: list[OrderedJob],
    existing: dict[JobId, ExistingJob],
    refused: RefusedItems,
) -> None:
    """
    Answer orders whose job existed; reject orders that collide with another job.

    A job is queued again if the order is forced, or if it is a discovery whose repetition is due.
    """
    requested = {}
    for ordered in orders:
        match existing.get(ordered.job_id):
            case None:
                detail = "a unique index of the web app's own does not allow the job"
                refused.claim(uow, ordered.position, "refused_by_database", detail)
            case ExistingJob(job_id, is_same_host=True):
                announce_created(uow, job_id, ordered.order.account_id, existing=True)
                if ordered.order.force or ordered.order.requested_command is Command.GROUP_PROJECT_DISCOVERY:
                    requested[job_id] = ordered
            case ExistingJob(job_id):
                detail = f"job {job_id} has the same path, branch and command on another GitLab host"
                refused.claim(uow, ordered.position, "collides_with_another_host", detail)
    _requeue(uow, requested)


def _requeue(uow: UnitOfWork, requested: dict[JobId, OrderedJob]) -> None:
    """Queue existing jobs again that have ended; a job that waits or runs is left as it is."""
    if not requested:
        return
    locked = lock_jobs(uow, sorted(requested))
    now = uow.now()
    requeued = locked.where(lambda job: _should_requeue(requested[job.id].order, job, now))
    revoke(uow, requeued, "the job was ordered again")
    requeue_ended(uow, requeued.where(lambda job: requested[job.id].order.resume), restart=False)
    requeue_ended(uow, requeued.where(lambda job: not requested[job.id].order.resume), restart=True)


def _should_requeue(order: Order, job: KnownJob, now: datetime) -> bool:
    if order.force:
        return job.status not in JOB_CRAWLABLE
    return job.status in (JobStatus.FAILED, JobStatus.CANCELLED) or is_rediscovery_due(job, now)
