"""The changes of areas that a discovery's plan asks for."""

from collections.abc import Collection

from persistence.areas.areas import NewArea
from persistence.areas.changes import Finder
from persistence.exceptions import Contended, DataRefusedError
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId, JobId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.types import CHANGES_LIMIT
from tasks.discovery.area_plan import AreaPlan
from tasks.discovery.items import FoundEntity


class AreaChanges:
    """The changes of one discovery's areas, which the caller has locked, and which of them are made so far."""

    def __init__(
        self, uow: UnitOfWork, plan: AreaPlan, parent: KnownJob, connection_id: ConnectionId
    ) -> None:
        self._uow = uow
        self._plan = plan
        self._parent = parent
        self._connection_id = connection_id
        self._known = {path for path, _ in plan.known}
        """Paths of areas that the plan has seen or that this unit has moved there."""
        self._done: set[str] = set()
        """Paths of entities that are applied."""

    def move(self, moved: Collection[tuple[str, FoundEntity]], job_ids: Collection[JobId]) -> None:
        """Move areas from their former paths, with everything that refers to them and these jobs of theirs."""
        paths = {former: entity.full_path for former, entity in moved}
        merging = {former: path for former, path in paths.items() if former in self._plan.merging}
        self._uow.identities.follow(self._uow.jobs.move(job_ids, paths))
        self._uow.areas.merge(merging)
        self._uow.areas.move({former: path for former, path in paths.items() if former not in merging})
        self._known.update(paths.values())

    def write(self, entities: Collection[FoundEntity]) -> None:
        """
        Add or correct the areas of these entities, authorize the account for them, and record what changed.

        Changes that are only proposed are recorded, and decided in a unit of their own once they are confirmed.
        """
        found = {entity.full_path: entity for entity in entities if entity.area_type}
        paths = found.keys() - self._done
        self._propose(paths)
        paths -= self._plan.proposed.keys()
        withdrawn = [found[path].gitlab_id for path in paths]
        self._uow.area_changes.withdraw(withdrawn, self._parent.account_id)
        self._uow.areas.correct(
            [self._plan.corrected[path] for path in sorted(paths & self._plan.corrected.keys())]
        )
        self._add([self._plan.new[path] for path in sorted(paths & self._plan.new.keys())])
        if paths:
            self._uow.areas.authorize(self._parent.account_id, sorted(paths))
        if paths and self._parent.host:
            self._uow.areas.set_host(self._parent.host, sorted(paths))
        self._record(paths)

    def mark_done(self, entities: Collection[FoundEntity]) -> None:
        """Note that these entities are applied completely: their areas need not be written again."""
        self._done.update(entity.full_path for entity in entities)

    def raise_if_contended(self, refused: Collection[FoundEntity | NewArea]) -> None:
        """Raise Contended if another transaction has added an area there: run again, the unit finds it."""
        found = self._uow.areas.find([r.full_path for r in refused], [r.gitlab_id for r in refused])
        if any(area.full_path not in self._known | self._done for area in found):
            raise Contended("areas were added by another transaction")

    def _add(self, new: Collection[NewArea]) -> None:
        added = self._uow.areas.add(new)
        if missing := [area for area in new if area.full_path not in added]:
            self.raise_if_contended(missing)
            raise DataRefusedError("another row is in the area's place", "23505")

    def _propose(self, paths: set[str]) -> None:
        proposed = [self._plan.proposed[path] for path in sorted(paths & self._plan.proposed.keys())]
        parent = self._parent
        finder = Finder(parent.account_id, parent.id, parent.graphql_url, self._connection_id)
        for change in self._uow.area_changes.propose(proposed, finder):
            self._uow.events.add(
                EventType.AREA_CHANGE_PROPOSED,
                job_id=parent.id,
                account_id=parent.account_id,
                **vars(change),
            )
        confirmed = self._uow.area_changes.confirmed(proposed, parent.account_id)
        for start in range(0, len(confirmed), CHANGES_LIMIT):
            self._uow.publish(
                "areas.decide", change_ids=confirmed[start : start + CHANGES_LIMIT], accept=True
            )

    def _record(self, paths: set[str]) -> None:
        changes = [self._plan.changes[path] for path in sorted(paths & self._plan.changes.keys())]
        self._uow.area_changes.record(changes, self._parent.account_id, self._parent.id)
        for change in changes:
            self._uow.events.add(
                EventType.AREA_CHANGED,
                job_id=self._parent.id,
                account_id=self._parent.account_id,
                **vars(change),
            )
