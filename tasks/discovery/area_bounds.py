"""
How many areas discoveries may make: of one account, and in all. What is beyond is refused; nothing is dropped.

An account's areas are counted only if some are new to it: 200,000 took 0.1 s on a busy machine. Those of all are as
many as `upkeep.take_statistics` last counted.
"""

from collections import Counter

from persistence.schema.ids import AccountId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.discovery.area_plan import AreaPlan
from tasks.discovery.items import RejectItem

REASON = "too_many_areas"


def refuse_beyond_bounds(
    uow: UnitOfWork, plan: AreaPlan, account_id: AccountId, refuse: RejectItem
) -> dict[str, str]:
    """
    Refuse the entities whose areas would be too many; by path, the table that has too many rows.

    Areas that the account has are not new to it, nor is one that moves. Discoveries of one account that are applied at
    the same moment may exceed its bound by what each of them adds, and all discoveries that in all by what they add
    until areas are counted again.
    """
    moved = {entity.full_path for entity in plan.moved.values()}
    paths = dict.fromkeys(e.full_path for e in plan.usable if e.area_type)
    new = [path for path in paths if path not in plan.proposed and path not in moved]
    authorized = uow.areas.authorized(account_id, new)
    new = [path for path in new if path not in authorized]
    if not new:
        return {}
    most = settings().max_areas_per_account
    room = most - uow.areas.count_authorized(account_id, most)
    room_in_all = settings().max_areas - uow.statistics.counted_areas()
    refused: dict[str, str] = {}
    for path in new:
        if path in plan.new and room_in_all < 1:
            refused[path] = "area"
        elif room < 1:
            refused[path] = "area_authorization"
        else:
            room -= 1
            room_in_all -= path in plan.new
    for entity in plan.usable:
        if entity.full_path in refused:
            refuse(entity.item, REASON, _DETAILS[refused[entity.full_path]])
    return refused


def count_refused(uow: UnitOfWork, refused: dict[str, str]) -> None:
    """Count what was refused; the commit must follow at once."""
    if refused:
        uow.statistics.add_refused(Counter(refused.values()))


_DETAILS = {
    "area": "there are as many areas as there may be",
    "area_authorization": "the account has as many areas as it may have",
}
