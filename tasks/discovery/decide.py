"""
The task `areas.decide`: an operator accepts or rejects proposed changes of areas.

Each change is a unit of its own and safe twice: what was decided is not decided again.
"""

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from celery.exceptions import Reject

from persistence.areas.areas import KnownArea, NewArea
from persistence.areas.changes import KnownChange
from persistence.exceptions import Contended
from persistence.schema.commands import AreaType
from persistence.schema.event_types import EventType
from persistence.schema.ids import global_id
from persistence.schema.paths import path_key
from persistence.schema.states import AreaChangeStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import DecideAreaChanges
from tasks.discovery.lock import lock_moves
from tasks.runtime.batches import reject
from tasks.runtime.chunks import TIME_LIMIT_S
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work


@task(name="areas.decide", accepts=DecideAreaChanges)
def decide_area_changes(payload: DecideAreaChanges) -> None:
    """Apply these proposed changes, or reject them. Raises Reject to continue later if they take too long."""
    deadline = monotonic() + TIME_LIMIT_S
    for change_id in payload.change_ids:
        with unit_of_work() as uow:
            decide(uow, change_id, accept=payload.accept, among=payload.change_ids)
            uow.commit()
        if monotonic() > deadline:
            raise Reject("there is more to do", requeue=True)


def decide(uow: UnitOfWork, change_id: str, *, accept: bool, among: Sequence[str] = ()) -> None:
    """
    Apply or reject one proposed change; nothing if it is decided already.

    Of two areas that swap their paths each is in the other's way: both changes are made at once, if both are *among*
    those that are accepted together.
    """
    change = uow.area_changes.find(change_id)
    if change is None:
        reject(uow, {"change_id": change_id}, "unknown_area_change", "no change with this id was proposed")
    elif change.status is not AreaChangeStatus.PROPOSED:
        return
    elif accept:
        _apply(uow, change, among)
    else:
        uow.area_changes.reject(change_id)


def _apply(uow: UnitOfWork, change: KnownChange, among: Sequence[str]) -> None:
    """Make a change, for every account, with all areas in a group that moves."""
    area = change.area
    known = uow.areas.find([area.full_path], [area.gitlab_id])
    current = next((a for a in known if _is_same(a, area)), None)
    occupant = _occupant(known, current, change)
    if occupant:
        area = replace(area, full_path=occupant.full_path)  # in its spelling
    if current and occupant and (other := _opposite(uow, current, occupant, among)):
        _swap(uow, (change, other), (current, occupant))
        return
    if obstacle := _obstacle(uow, change, current, occupant):
        reject(uow, {"change_id": change.id}, "area_change_conflicts", obstacle)
        return
    moves = _moves(uow, area, current)
    proposers = uow.accounts.lock_key_share(uow.area_changes.proposers({area.full_path, *moves.values()}))
    job_ids, locked = lock_moves(uow, area, moves, change.graphql_url)
    if uow.areas.find([area.full_path], [area.gitlab_id]) != known or _moves(uow, area, current) != moves:
        raise Contended("areas were changed by another transaction")
    if not uow.area_changes.lock_proposed(change.id):
        return
    moves = _possible(moves, area, locked, change.host)
    uow.spellings.add([area.full_path, *moves.values()])
    uow.identities.follow(uow.jobs.move(job_ids, moves))
    merged = {current.full_path: area.full_path} if current and occupant else {}
    uow.areas.merge(merged)
    uow.areas.move({former: path for former, path in moves.items() if former not in merged})
    if current is None and occupant is None:
        uow.areas.add([area])
    uow.areas.correct([area])
    paths = {area.full_path, *moves.values()}
    if change.host:
        uow.areas.set_host(change.host, sorted(paths))
    uow.areas.link_found(sorted(paths))
    for account_id, path in uow.area_changes.settle(paths):
        if account_id in proposers:
            uow.areas.authorize(account_id, [path])
    uow.events.add(
        EventType.AREA_CHANGED,
        job_id=change.job_id,
        account_id=change.account_id,
        full_path=area.full_path,
        gitlab_id=area.gitlab_id,
        former_path=current.full_path if current and current.full_path != area.full_path else None,
        former_gitlab_id=occupant.gitlab_id if occupant else None,
    )


def _opposite(
    uow: UnitOfWork, current: KnownArea, occupant: KnownArea, among: Sequence[str]
) -> KnownChange | None:
    """The change by which the area in the way moves to where the other one is, if it is accepted, too."""
    if current.host and occupant.host and current.host != occupant.host:
        return None
    id_ = global_id(occupant.type, occupant.gitlab_id)
    change_id = uow.area_changes.find_proposed(id_, current.full_path, among)
    return uow.area_changes.find(change_id) if change_id else None


def _swap(
    uow: UnitOfWork, changes: tuple[KnownChange, KnownChange], areas: tuple[KnownArea, KnownArea]
) -> None:
    """Let two areas swap their paths, for every account, with all areas in groups; *areas* as they were read."""
    first, second = areas
    targets = [
        replace(change.area, full_path=other.full_path)  # in its spelling
        for change, other in zip(changes, (second, first), strict=True)
    ]

    def moves_now() -> dict[str, str]:
        return {
            former: path
            for target, area in zip(targets, areas, strict=True)
            for former, path in _moves(uow, target, area).items()
        }

    moves = moves_now()
    proposers = uow.accounts.lock_key_share(uow.area_changes.proposers(moves.values()))
    job_ids, locked = lock_moves(uow, targets[0], moves, changes[0].graphql_url)
    if {*areas} - {*locked} or moves_now() != moves:
        raise Contended("areas were changed by another transaction")
    if not all(uow.area_changes.lock_proposed(id_) for id_ in sorted(change.id for change in changes)):
        return
    taken = {area.full_path for area in locked} - moves.keys()
    moves = {former: path for former, path in moves.items() if path not in taken}
    uow.spellings.add(moves.values())
    uow.identities.follow(uow.jobs.move(job_ids, moves))
    uow.areas.move(moves)
    uow.areas.correct(targets)
    if host := changes[0].host:
        uow.areas.set_host(host, sorted(moves.values()))
    uow.areas.link_found(sorted(moves.values()))
    for account_id, path in uow.area_changes.settle(moves.values()):
        if account_id in proposers:
            uow.areas.authorize(account_id, [path])
    for change, target, area in zip(changes, targets, areas, strict=True):
        uow.events.add(
            EventType.AREA_CHANGED,
            job_id=change.job_id,
            account_id=change.account_id,
            full_path=target.full_path,
            gitlab_id=target.gitlab_id,
            former_path=area.full_path,
            former_gitlab_id=None,
        )


def _is_same(known: KnownArea, area: NewArea) -> bool:
    return area.gitlab_id in (known.gitlab_id, global_id(known.type, known.gitlab_id))


def _occupant(known: Sequence[KnownArea], current: KnownArea | None, change: KnownChange) -> KnownArea | None:
    """The other area at the path of a change, whatever its case on the same host."""
    path = change.area.full_path
    others = [area for area in known if area is not current and path_key(area.full_path) == path_key(path)]
    same_host = (a for a in others if a.full_path != path and (not a.host or a.host == change.host))
    return next((a for a in others if a.full_path == path), next(same_host, None))


def _obstacle(
    uow: UnitOfWork, change: KnownChange, current: KnownArea | None, occupant: KnownArea | None
) -> str | None:
    """Why a change cannot be made; None if it can."""
    for area in (current, occupant):
        if area and area.host and change.host and area.host != change.host:
            return f"{area.full_path} ({area.gitlab_id}) is an area of {area.host}"
    if occupant:
        id_ = global_id(occupant.type, occupant.gitlab_id)
        if elsewhere := uow.area_changes.proposed_elsewhere(id_, occupant.full_path):
            is_swap = current and path_key(elsewhere) == path_key(current.full_path)
            remedy = "they swap their paths, accept both in one command" if is_swap else "decide that first"
            return f"{occupant.full_path} is {id_}, which is proposed to move to {elsewhere}: {remedy}"
    return None


def _possible(moves: dict[str, str], area: NewArea, locked: list[KnownArea], host: str) -> dict[str, str]:
    """The moves that can be made: an area in a group stays if its new path is taken, or if its host is another one."""
    taken = {known.full_path for known in locked}
    elsewhere = {known.full_path for known in locked if known.host and host and known.host != host}
    return {
        former: path
        for former, path in moves.items()
        if path == area.full_path or (path not in taken and former not in elsewhere)
    }


def _moves(uow: UnitOfWork, area: NewArea, current: KnownArea | None) -> dict[str, str]:
    """The new paths of the area and of all areas in it, by their former ones; empty if it does not move."""
    if current is None or current.full_path == area.full_path:
        return {}
    below = uow.areas.below(current.full_path) if area.type is AreaType.GROUP else set()
    length = len(current.full_path)
    return {path: area.full_path + path[length:] for path in sorted({current.full_path, *below})}
