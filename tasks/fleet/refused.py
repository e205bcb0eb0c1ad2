"""The refused frames of a message, and the refused items of its discoveries."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from persistence.schema.ids import ConnectionId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import Discovery, JobFrame
from tasks.fleet.batch import FrameBatch
from tasks.sanitize.refused import Place, RefusedItems


class RefusedFrames(RefusedItems):
    """The refused items of one message of frames."""

    def __init__(self, items: Sequence[object], batch: FrameBatch, message: str | None = None) -> None:
        super().__init__(items, message)
        self._batch = batch
        pairs = zip(batch.frames, batch.positions, strict=True)
        self._positions = {id(frame): position for (_, frame), position in pairs}
        self._discovered: dict[Place, object] = {}
        self._places: dict[int, dict[int, list[Place]]] = {}
        for invalid in batch.invalid:
            self.add_invalid(invalid.position, invalid.error, invalid.sender)

    def claim_frame(
        self,
        uow: UnitOfWork,
        connection_id: ConnectionId,
        frame: JobFrame | Discovery,
        reason: str,
        detail: str = "",
    ) -> None:
        """Refuse a frame that cannot be applied."""
        self.claim(uow, self._positions[id(frame)], reason, detail, connection_id)

    def claim_discovered(
        self,
        uow: UnitOfWork,
        connection_id: ConnectionId,
        frame: Discovery,
        item: object,
        refusal: tuple[str, str],
    ) -> bool:
        """
        Refuse an item of a discovery, with a reason and its detail; False if the discovery does not have it.

        Equal items may stand for each other.
        """
        if id(frame) not in self._places:
            by_item = self._places[id(frame)] = defaultdict(list)
            for place, found in self._items_of(frame):
                by_item[id(found)].append(place)
        if not (places := self._places[id(frame)].get(id(item))):
            return False
        self.claim(uow, places.pop(0), *refusal, connection_id)
        return True

    def look_again(self, frame: Discovery) -> None:
        """Store what is missing of a discovery that another delivery has applied."""
        self._claimed.update(place for place, _ in self._items_of(frame))

    def name_tokens(self, uow: UnitOfWork) -> None:
        """Name the attempts that the frames are about, and the live ones of their connections."""
        fences = (frame.job_id for _, frame in self._batch.frames)
        uow.tokens.name(fences=fences, connections=self._batch.beats)

    def item(self, place: Place) -> object:
        """The item at a place, as it was sent; of a discovery's, with the discovery that it belongs to."""
        return self._discovered[place] if isinstance(place, str) else super().item(place)

    def candidates(self) -> Iterator[tuple[Place, object]]:
        """All items that may have been refused, those of discoveries included."""
        yield from super().candidates()
        for _, frame in self._batch.frames:
            if isinstance(frame, Discovery):
                yield from self._items_of(frame)

    def _items_of(self, frame: Discovery) -> Iterable[tuple[Place, object]]:
        position = self._positions[id(frame)]
        for n, item in enumerate(frame.found):
            place = f"{position}.{n}"
            self._discovered[place] = {"type": frame.type, "jobId": frame.job_id, "item": item}
            yield place, item
