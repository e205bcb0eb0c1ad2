"""The Redis transport: what is popped is made harmless, and trouble with Redis stops no worker for good."""

from typing import Any

import structlog
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls, redis
from redis.exceptions import ConnectionError as BrokerLost
from redis.exceptions import OutOfMemoryError

from tasks.routes import QUEUES
from tasks.worker import liveness
from tasks.worker.acks import QoS
from tasks.worker.envelope import seal

log = structlog.get_logger()

SCHEMES = ("redis", "rediss")

MISREAD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What code raises that met an unexpected shape. Errors of the broker are none of these and pass."""


class Channel(redis.Channel):
    """A channel whose BRPOP gives envelopes, also where the text in Redis was none."""

    QoS = QoS
    _command_client: Any = None
    """The client for all but the consumer's own questions."""

    def _queue_bind(self, *args: Any) -> None:
        # Ours are published to by name, and popped by name. A full Redis is emptied by who consumes:
        # waiting for it to take this first, nobody would.
        try:
            super()._queue_bind(*args)
        except OutOfMemoryError:
            log.warning("broker_full")

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        if asynchronous:
            # redis-py's own hook for what a reply becomes. One step later kombu parses the text, where
            # an error ends the worker while the text is in no list any more.
            client = super()._create_client(asynchronous)
            client.set_response_callback("BRPOP", self._sealed)
            return client
        # kombu makes one for each message that it notes or acknowledges: an eighth of a worker's own time.
        if self._command_client is None or self._command_client.connection_pool is not self.pool:
            self._command_client = super()._create_client()
        return self._command_client

    def _sealed(self, reply: list[bytes] | None, **_: Any) -> tuple[bytes, str | bytes] | None:
        liveness.on_broker_answer()
        if not reply:
            return None
        key, text = reply
        # The list of a priority is the queue's name, a separator and a digit; it goes on without it.
        queue = key.decode().rsplit(self.sep, 1)[0]
        # Whoever asks workers by remote control waits for answers in a queue of its own.
        return key, seal(text, queue) if queue in QUEUES else text

    def close(self) -> None:
        """Close, and give back what is in hand, also where the connection that asks for messages is dead."""
        # kombu listens to that one for a last time first. Its error left the rest to a second close, by when the
        # transport has forgotten where its server is: that ended the worker, if it had a message in hand.
        try:
            super().close()
        except BrokerLost:
            super().close()

    def _receive_one(self, client: Any) -> bool:
        """Deliver a control message; one that kombu misreads is dropped, instead of the worker that read it."""
        # It comes by PUBLISH to all workers at once, and is in no list: nothing of it could be given back.
        try:
            return bool(super()._receive_one(client))
        except MISREAD as error:
            log.warning("control_message_dropped", error=type(error).__name__)
            return False


class Transport(redis.Transport):
    """kombu's Redis transport over that channel."""

    Channel = Channel


def register() -> None:
    """
    Let this transport serve the Redis URLs. Call it before the first connection: tasks/app.py does.

    `broker_transport` would do the same for redis:// only: for rediss:// kombu tells by the
    transport's name whether to speak TLS, and redis+socket:// names its transport itself.
    """
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
        if get_transport_cls(scheme) is not Transport:  # kombu remembers what it has looked up
            raise RuntimeError("a connection to Redis was made before the transport was registered")
