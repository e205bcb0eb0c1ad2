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

import structlog
from kombu.transport import redis, virtual
from kombu.utils.json import dumps
from redis.exceptions import ConnectionError as BrokerLost
from redis.exceptions import OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as BrokerSilent

log = structlog.get_logger()


class QoS(redis.QoS):
    """The unacknowledged messages, dated by the server. A slot is free when its unit has ended."""

    _clock_offset: float | None = None
    """From our monotonic clock to the server's; measured again at each look for messages of dead workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unrecorded: set[str] = set()

    def append(self, message: Any, delivery_tag: str) -> None:
        """
        Record a message as delivered, and pass it on even if Redis refuses the record.

        It was popped, so no other worker has it. Without the record it is lost only if this worker dies.
        """
        try:
            self._record_unacked(message, delivery_tag)
        except RedisError as error:
            log.warning("delivery_not_noted", error=type(error).__name__)
            self._unrecorded.add(delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Remove the record; if that fails, the message is redelivered and changes nothing."""
        self._unrecorded.discard(delivery_tag)
        self._settle(partial(super().ack, delivery_tag), delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Requeue the message at once; if that fails, it is redelivered after the visibility timeout."""
        put_back = partial(super().reject, delivery_tag, requeue=requeue)

        def report() -> None:
            if requeue and delivery_tag in self._unrecorded:  # kombu requeues what the record contains
                self._record_unacked(self._delivered[delivery_tag], delivery_tag)
                self._unrecorded.discard(delivery_tag)
            put_back()

        self._settle(report, delivery_tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Requeue the messages of dead workers; while Redis is full, they wait."""
        self._clock_offset = None
        try:
            super().restore_visible(*args, **kwargs)
        except OutOfMemoryError:
            log.warning("broker_full")

    @property
    def visibility_timeout(self) -> float:
        """The timeout, corrected for kombu, which subtracts it from this machine's time instead of the server's."""
        return float(self.channel.visibility_timeout) + time() - self._now()

    def _record_unacked(self, message: Any, delivery_tag: str) -> None:
        """Record a message as kombu does, but with the server's time."""
        where = message.delivery_info
        record = dumps([message._raw, where["exchange"], where["routing_key"]])  # noqa: SLF001 - as kombu does
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

    def _settle(self, report: Callable[[], None], delivery_tag: str) -> None:
        """Report to Redis, on a second connection if the first is dead; free the slot in any case."""
        try:
            try:
                report()
            except (BrokerLost, BrokerSilent):
                report()
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)
            raise
