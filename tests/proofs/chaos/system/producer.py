"""A producer that says things twice, holds them back and lets them overtake each other, as networks do."""

import heapq
import random
import threading
import time
from contextlib import closing
from itertools import count
from typing import Any
from uuid import uuid4

from console.simulator.background import Background
from console.simulator.gateway import UNHEARD
from proofs.chaos.accounting.journal import Journal
from tasks.client import Producer

LONGEST_DELAY_S = 2.0
_TURN_S = 0.02
_AGAIN_S = 0.3


class _Producer(Producer):
    """One that can say the same message again."""

    def send(self, id_: str, task: str, payload: dict[str, Any]) -> None:
        """Publish under a message id of the caller's."""
        self._app.send_task(task, kwargs=payload, task_id=id_)


class Mail(Background):
    """
    A bell; `ring` is one thread's. A *share* of what is rung meets one of three fates, equally likely.

    It is held back for up to two seconds, so that later words overtake it; it is delivered again as
    it is, as by a broker; it is said again under a new id, as by somebody who saw no answer.
    """

    def __init__(self, broker_url: str, seed: str, share: float, journal: Journal) -> None:
        super().__init__(f"mail {seed}")
        self.share = share
        self._broker_url = broker_url
        self._producer = _Producer(broker_url)
        self._chance = random.Random(seed)
        self._journal = journal
        self._lock = threading.Lock()
        self._number = count()
        self._later: list[tuple[float, int, str, str, dict[str, Any]]] = []

    @property
    def held_back(self) -> int:
        """How many messages wait to be sent."""
        return len(self._later)

    def ring(self, task: str, **payload: Any) -> None:
        """Publish, now or later, once or twice; raises one of UNHEARD where now nobody hears it."""
        id_, lot = str(uuid4()), self._chance.random()
        if lot < self.share / 3:
            self._hold(id_, task, payload, "held back")
            return
        self._send(self._producer, id_, task, payload)
        if lot < self.share * 2 / 3:
            self._hold(id_, task, payload, "delivered twice")
        elif lot < self.share:
            self._hold(str(uuid4()), task, payload, "said twice")

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close()

    def _live(self) -> None:
        with closing(_Producer(self._broker_url)) as producer:
            while not self._stop.wait(_TURN_S):
                self._send_what_is_due(producer)

    def _hold(self, id_: str, task: str, payload: dict[str, Any], what: str) -> None:
        due = time.monotonic() + self._chance.uniform(0, LONGEST_DELAY_S)
        self._journal.note("count", what=what)
        with self._lock:
            heapq.heappush(self._later, (due, next(self._number), id_, task, payload))

    def _send_what_is_due(self, producer: _Producer) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            with self._lock:
                _, number, id_, task, payload = heapq.heappop(self._later)
            try:
                self._send(producer, id_, task, payload)
            except UNHEARD:
                with self._lock:
                    heapq.heappush(self._later, (time.monotonic() + _AGAIN_S, number, id_, task, payload))
                return

    def _send(self, producer: _Producer, id_: str, task: str, payload: dict[str, Any]) -> None:
        producer.send(id_, task, payload)
        if ids := _speakers(task, payload):
            self._journal.note("heard", ids=ids, task=task)


def _speakers(task: str, payload: dict[str, Any]) -> list[str]:
    """The connections whose life a message proves."""
    match task:
        case "connections.heartbeat":
            return [beat["connection_id"] for beat in payload["beats"]]
        case "crawler.frames":
            return sorted({said["connection_id"] for said in payload["frames"]})
        case "connections.register":
            return [payload["connection_id"]]
    return []
