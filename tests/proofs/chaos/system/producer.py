"""A producer that sends messages twice, delays them and reorders them, as networks do."""

import heapq
import random
import threading
import time
from contextlib import closing
from itertools import count
from typing import Any
from uuid import uuid4

from console.simulator.background import Background
from console.simulator.web_app import PUBLISH_ERRORS
from proofs.chaos.accounting.journal import Journal
from tasks.client import Producer

LONGEST_DELAY_S = 2.0
_TURN_S = 0.02
_AGAIN_S = 0.3


class _Producer(Producer):
    """A producer that can send the same message again."""

    def send(self, id_: str, task: str, payload: dict[str, Any]) -> None:
        """Publish under a given message id."""
        self._app.send_task(task, kwargs=payload, task_id=id_)


class UnreliablePublisher(Background):
    """
    A publisher that confuses a *share* of its messages in one of three ways, equally likely.

    It delays a message for up to two seconds, so that later ones overtake it; it delivers it again under the
    same id, as a broker may; or it sends it again under a new id, as a producer that saw no answer does.
    Only one thread may call `publish`.
    """

    def __init__(self, broker_url: str, seed: str, share: float, journal: Journal) -> None:
        super().__init__(f"publisher {seed}")
        self.share = share
        self._broker_url = broker_url
        self._producer = _Producer(broker_url)
        self._rng = random.Random(seed)
        self._journal = journal
        self._lock = threading.Lock()
        self._number = count()
        self._later: list[tuple[float, int, str, str, dict[str, Any]]] = []

    @property
    def pending(self) -> int:
        """How many messages wait to be sent."""
        return len(self._later)

    def publish(self, task: str, payload: dict[str, Any]) -> None:
        """Publish, now or later, once or twice; raises one of PUBLISH_ERRORS if the broker cannot be reached."""
        id_, draw = str(uuid4()), self._rng.random()
        if draw < self.share / 3:
            self._postpone(id_, task, payload, "delayed")
            return
        self._send(self._producer, id_, task, payload)
        if draw < self.share * 2 / 3:
            self._postpone(id_, task, payload, "delivered twice")
        elif draw < self.share:
            self._postpone(str(uuid4()), task, payload, "sent twice")

    def close(self) -> None:
        """Close the connection to the broker."""
        self._producer.close()

    def _run_loop(self) -> None:
        with closing(_Producer(self._broker_url)) as producer:
            while not self._stop.wait(_TURN_S):
                self._send_what_is_due(producer)

    def _postpone(self, id_: str, task: str, payload: dict[str, Any], what: str) -> None:
        due = time.monotonic() + self._rng.uniform(0, LONGEST_DELAY_S)
        self._journal.write("count", what=what)
        with self._lock:
            heapq.heappush(self._later, (due, next(self._number), id_, task, payload))

    def _send_what_is_due(self, producer: _Producer) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            with self._lock:
                _, number, id_, task, payload = heapq.heappop(self._later)
            try:
                self._send(producer, id_, task, payload)
            except PUBLISH_ERRORS:
                with self._lock:
                    heapq.heappush(self._later, (time.monotonic() + _AGAIN_S, number, id_, task, payload))
                return

    def _send(self, producer: _Producer, id_: str, task: str, payload: dict[str, Any]) -> None:
        producer.send(id_, task, payload)
        if ids := _senders(task, payload):
            self._journal.write("accepted", ids=ids, task=task)


def _senders(task: str, payload: dict[str, Any]) -> list[str]:
    """Return the connections for which a message is a sign of life."""
    match task:
        case "connections.heartbeat":
            return [beat["connection_id"] for beat in payload["beats"]]
        case "crawler.frames":
            return sorted({item["connection_id"] for item in payload["frames"]})
        case "connections.register":
            return [payload["connection_id"]]
    return []
