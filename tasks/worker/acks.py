"""
Records unacknowledged messages in Redis, such that trouble with Redis or a wrong clock loses no message and no slot.

A worker asks for a message only while it has a free slot. kombu does not free the slot of a message that it could not
acknowledge until the connection ends, and it drops a message that it has popped but could not record. A pause of
Redis of six seconds took all slots of a worker forever, and a full Redis lost a message at each delivery.

kombu also dates unacknowledged messages with the worker's clock. A worker that was an hour ahead took over the
messages of all others every five seconds, and when it died its own came back an hour late. Here the server's clock
dates them.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic, time
from typing import Any
from uuid import uuid4

import structlog
from kombu.asynchronous import get_event_loop
from kombu.transport import redis, virtual
from kombu.utils.json import dumps
from redis.exceptions import ConnectionError as BrokerLost
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as BrokerSilent

from tasks.worker.records import put_back, record_of

log = structlog.get_logger()

_REQUEUE_AGAIN_S = 2.0


class QoS(redis.QoS):
    """The unacknowledged messages, dated by the server. A slot is free when its unit has ended."""

    _clock_offset: float | None = None
    """From our monotonic clock to the server's; measured again at each look for messages of dead workers."""

    _of_dead_workers = False
    """True while messages of dead workers are put back: their deaths are counted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recorded: set[str] = set()
        self._unrecorded: set[str] = set()

    def record(self, raw: bytes, queue: str) -> str:
        """
        Record a text that was popped, before anything of it is read; returns its delivery tag.

        If it cannot be recorded, for whatever reason, the text is passed on nevertheless: no other worker has it.
        Without the record it is lost only if this worker dies.
        """
        tag = str(uuid4())
        self._try_to_record(tag, lambda: record_of(raw, queue))
        self._recorded.add(tag)
        return tag

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message as delivered."""
        if delivery_tag in self._recorded:
            self._recorded.discard(delivery_tag)
        else:
            self._try_to_record(delivery_tag, lambda: _record_as_kombu(message))
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Remove the record; if that fails, the message is redelivered and changes nothing."""
        self._unrecorded.discard(delivery_tag)
        self._settle(partial(super().ack, delivery_tag), delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """
        Requeue the message at once; if that fails, it is redelivered after the visibility timeout.

        One that was never recorded exists nowhere else: it keeps its slot, and this is tried again until it succeeds
        or the channel closes.
        """
        put_back = partial(super().reject, delivery_tag, requeue=requeue)

        def report() -> None:
            if requeue:
                self._record_late(delivery_tag)
            put_back()

        try:
            self._settle(report, delivery_tag, requeue=requeue)
        except Exception:
            loop = get_event_loop()
            if loop is not None and requeue and delivery_tag in self._unrecorded:
                loop.call_later(_REQUEUE_AGAIN_S, self._requeue_again, delivery_tag)
            raise

    def _requeue_again(self, delivery_tag: str) -> None:
        if delivery_tag in self._unrecorded and delivery_tag in self._delivered:
            try:
                self.reject(delivery_tag, requeue=True)
            except Exception as error:  # noqa: BLE001 - it is tried again
                log.warning("message_not_requeued", error=type(error).__name__)

    def restore_unacked(self, client: Any = None) -> None:
        """Requeue all messages in hand when the channel closes."""
        for tag in self._unrecorded & self._delivered.keys():
            try:
                self._record_late(tag)
            except Exception as error:  # noqa: BLE001 - the others are requeued
                log.error("message_not_requeued", error=type(error).__name__)  # noqa: TRY400 - it says all
        super().restore_unacked(client)

    def _record_late(self, delivery_tag: str) -> None:
        """Record a message that could not be recorded before: kombu requeues what the record contains."""
        if delivery_tag in self._unrecorded:
            self._record_unacked(delivery_tag, _record_as_kombu(self._delivered[delivery_tag]))
            self._unrecorded.discard(delivery_tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Requeue the messages of dead workers; while Redis is full, they wait."""
        self._clock_offset = None
        self._of_dead_workers = True
        try:
            super().restore_visible(*args, **kwargs)
        except OutOfMemoryError:
            log.warning("broker_full")
        finally:
            self._of_dead_workers = False

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Put a message back as it was popped. kombu would parse it."""

        def restore(pipe: Any) -> None:
            record = pipe.hget(self.unacked_key, tag)
            pipe.multi()
            self._remove_from_indices(tag, pipe)
            if record:
                queue, text = put_back(record, died=self._of_dead_workers)
                (pipe.lpush if leftmost else pipe.rpush)(queue, text)

        with self.channel.conn_or_acquire(client) as client_:
            client_.transaction(restore, self.unacked_key)

    @property
    def visibility_timeout(self) -> float:
        """The timeout, corrected for kombu, which subtracts it from this machine's time instead of the server's."""
        return float(self.channel.visibility_timeout) + time() - self._now()

    def _try_to_record(self, delivery_tag: str, record: Callable[[], bytes | str]) -> None:
        try:
            self._record_unacked(delivery_tag, record())
        except Exception as error:  # noqa: BLE001 - whatever the reason, the message is in no list any more
            log.warning("delivery_not_noted", error=type(error).__name__)
            self._unrecorded.add(delivery_tag)

    def _record_unacked(self, delivery_tag: str, record: bytes | str) -> None:
        """Write a record where kombu does, but with the server's time."""
        now = self._now()
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: now})
            pipe.hset(self.unacked_key, delivery_tag, record)
            pipe.execute()

    def _now(self) -> float:
        """The server's time."""
        if self._clock_offset is None:
            with self.channel.conn_or_acquire() as client:
                seconds, microseconds = client.time()
            self._clock_offset = seconds + microseconds / 1e6 - monotonic()
        return monotonic() + self._clock_offset

    def _settle(self, report: Callable[[], None], delivery_tag: str, *, requeue: bool = False) -> None:
        """
        Report to Redis, on a second connection if the first is dead; free the slot in any case.

        But for a message to requeue that exists nowhere else: what frees its slot drops it.
        """
        try:
            try:
                report()
            except (BrokerLost, BrokerSilent):
                report()
        except BaseException:
            if not (requeue and delivery_tag in self._unrecorded):
                virtual.QoS.ack(self, delivery_tag)
            raise


def _record_as_kombu(message: Any) -> str:
    where = message.delivery_info
    return str(dumps([message._raw, where["exchange"], where["routing_key"]]))  # noqa: SLF001 - as kombu does
