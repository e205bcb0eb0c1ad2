"""
What is noted in Redis of messages in hand, so that trouble with Redis, or a clock that is off, costs nothing.

A worker asks for a message only while it has a slot for one. kombu keeps the slot of a message that it could
not acknowledge, as long as the connection lives, and drops a message that it could not note as delivered
though it has popped it: a pause of Redis of six seconds took all of a worker's slots for ever, and a full
Redis lost a message at each delivery.

And kombu dates the messages in hand by the worker's clock. One that was an hour ahead gave all that others had
in hand to itself, every five seconds, and what it had in hand when it died came back an hour late. So they
are dated by the server's clock.
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
    """The messages in hand, with the server's time of each, and a slot that is free when its unit has ended."""

    _clock_offset: float | None = None
    """From our monotonic clock to the server's; read anew with each look for messages of the dead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unrecorded: set[str] = set()

    def append(self, message: Any, delivery_tag: str) -> None:
        """
        Note a message as delivered, and hand it on also where Redis would not have the note.

        It was popped: nobody else has it. Without the note it is lost if this worker dies of it.
        """
        try:
            self._record_unacked(message, delivery_tag)
        except RedisError as error:
            log.warning("delivery_not_noted", error=type(error).__name__)
            self._unrecorded.add(delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Take the note away; where that cannot be, the message comes again, and changes nothing."""
        self._unrecorded.discard(delivery_tag)
        self._settle(partial(super().ack, delivery_tag), delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Put the message back at once, or where that cannot be, after the visibility timeout."""
        put_back = partial(super().reject, delivery_tag, requeue=requeue)

        def tell() -> None:
            if requeue and delivery_tag in self._unrecorded:  # what is put back is what the note holds
                self._record_unacked(self._delivered[delivery_tag], delivery_tag)
                self._unrecorded.discard(delivery_tag)
            put_back()

        self._settle(tell, delivery_tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Give messages of the dead to the living; a Redis that is full has to wait for that."""
        self._clock_offset = None
        try:
            super().restore_visible(*args, **kwargs)
        except OutOfMemoryError:
            log.warning("broker_full")

    @property
    def visibility_timeout(self) -> float:
        """What kombu subtracts from this machine's time: more by what that is ahead of the server's."""
        return float(self.channel.visibility_timeout) + time() - self._now()

    def _record_unacked(self, message: Any, delivery_tag: str) -> None:
        """Note a message as in hand, as kombu does, but for the clock."""
        where = message.delivery_info
        held = dumps([message._raw, where["exchange"], where["routing_key"]])  # noqa: SLF001 - what kombu keeps
        now = self._now()
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: now})
            pipe.hset(self.unacked_key, delivery_tag, held)
            pipe.execute()

    def _now(self) -> float:
        """The server's time."""
        if self._clock_offset is None:
            with self.channel.conn_or_acquire() as client:
                seconds, microseconds = client.time()
            self._clock_offset = seconds + microseconds / 1e6 - monotonic()
        return monotonic() + self._clock_offset

    def _settle(self, tell: Callable[[], None], delivery_tag: str) -> None:
        """Tell Redis, on another connection if the first is dead; the slot is free in any case."""
        try:
            try:
                tell()
            except (BrokerLost, BrokerSilent):
                tell()
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)
            raise
