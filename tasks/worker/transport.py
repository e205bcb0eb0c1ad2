"""The Redis transport: it makes every popped text safe, and survives trouble with Redis."""

from typing import Any, Final

import structlog
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls, redis
from redis._parsers.socket import SocketBuffer
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as BrokerLost
from redis.exceptions import NoPermissionError, OutOfMemoryError
from redis.utils import SENTINEL

from persistence.db.json_bounds import check_json
from tasks.routes import QUEUES
from tasks.worker import liveness
from tasks.worker.acks import QoS
from tasks.worker.envelope import MAX_TEXT_BYTES, seal

log = structlog.get_logger()

SCHEMES = ("redis", "rediss")

_CONTROL_BYTES = 256 * 1024
_CONTROL_VALUES = 10_000

MISREAD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What code raises for data of an unexpected shape. Errors of the broker are not among them."""


MAX_REPLY_BYTES: Final = MAX_TEXT_BYTES * 4 // 3 + 4096
"""The largest text of a queue in the record of a message in hand, in base64."""


class BoundedBuffer(SocketBuffer):
    """redis-py's buffer, which cuts a value that is too large instead of holding it in memory."""

    def read(self, length: int, timeout: Any = SENTINEL) -> bytes:
        """Read one value, at most MAX_REPLY_BYTES of it."""
        if length <= MAX_REPLY_BYTES:
            return bytes(super().read(length, timeout=timeout))
        value, left = bytearray(), length + len(b"\r\n")
        while left:
            piece = self._buffer.read(left)
            if not piece:
                self._buffer.seek(0)
                self._buffer.truncate()
                self._read_from_socket(timeout=timeout)
                continue
            left -= len(piece)
            value += piece[: MAX_REPLY_BYTES - len(value)]
        return bytes(value)


class BoundedReplies:
    """A mixin for redis-py's connections."""

    def on_connect_check_health(self: Any, *args: Any, **kwargs: Any) -> None:
        """Bound the replies once the server has accepted the connection."""
        AbstractConnection.on_connect_check_health(self, *args, **kwargs)
        self._parser._buffer = BoundedBuffer(self._sock, self._socket_read_size, self.socket_timeout)  # noqa: SLF001


def bounded(connection_class: type) -> type:
    """Return a class of connections like this one, with bounded replies."""
    return type(f"Bounded{connection_class.__name__}", (BoundedReplies, connection_class), {})


class Channel(redis.Channel):
    """A channel whose BRPOP always returns envelopes, whatever the text in Redis is."""

    QoS = QoS
    _command_client: Any = None
    """The client for everything but the consumer's BRPOP."""

    def _queue_bind(self, *args: Any) -> None:
        # We publish and pop by the queue's name and need no binding. A full Redis refuses it, and only workers that
        # consume empty it: they must not wait for the binding.
        try:
            super()._queue_bind(*args)
        except OutOfMemoryError:
            log.warning("broker_full")
        except NoPermissionError:
            log.debug("queue_not_bound")

    def _put_fanout(self, *args: Any, **kwargs: Any) -> None:
        # Celery announces workers to other workers, which need no such news. The start has said what is missing.
        try:
            super()._put_fanout(*args, **kwargs)
        except NoPermissionError:
            log.debug("broadcast_not_permitted")

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        if asynchronous:
            # redis-py's hook for converting a reply. One step later kombu parses the text; an error there ends the
            # worker while the text is no longer in any list.
            client = super()._create_client(asynchronous)
            client.set_response_callback("BRPOP", self._sealed)
            return client
        # kombu makes one for each message that it records or acknowledges: an eighth of a worker's own CPU time.
        if self._command_client is None or self._command_client.connection_pool is not self.pool:
            self._command_client = super()._create_client()
        return self._command_client

    def _sealed(self, reply: list[bytes] | None, **_: Any) -> tuple[bytes, str | bytes] | None:
        liveness.on_broker_answer()
        if not reply:
            return None
        key, text = reply
        text = text[: MAX_TEXT_BYTES + 1]  # more is not read anyway
        prefix = len(self.global_keyprefix)  # kombu takes it off later
        # The list of a priority is the queue's name, a separator and a digit; drop the latter two.
        queue = key.decode()[prefix:].rsplit(self.sep, 1)[0]
        if queue not in QUEUES:  # a client of remote control waits for answers in a queue of its own
            return key, text
        return key, seal(text, queue, self.qos.record(text, queue))

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        parameters: dict[str, Any] = super()._connparams(asynchronous)
        return parameters | {"connection_class": bounded(parameters["connection_class"])}

    def _restore(self, message: Any, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        self.qos.restore_by_tag(message.delivery_tag, leftmost=leftmost)

    def close(self) -> None:
        """Close, and requeue unacknowledged messages, even if the connection for BRPOP is dead."""
        # kombu first reads from that connection once more. Its error left the rest to a second close, when the
        # transport no longer knew its server's address: that ended a worker with an unacknowledged message.
        try:
            super().close()
        except BrokerLost:
            super().close()

    def _handle_message(self, client: Any, response: Any) -> dict[str, Any]:
        """Read a control message; drop one that is too large to parse."""
        message: dict[str, Any] = super()._handle_message(client, response)
        if isinstance(data := message["data"], bytes):
            try:
                check_json(data, size=_CONTROL_BYTES, values=_CONTROL_VALUES)
            except ValueError:
                log.warning("control_message_dropped", error="too large")
                message["data"] = None
        return message

    def _receive_one(self, client: Any) -> bool:
        """Deliver a control message; drop one that kombu cannot read, instead of letting it end the worker."""
        # It is sent to all workers by PUBLISH and is in no list: it cannot be requeued.
        try:
            return bool(super()._receive_one(client))
        except NoPermissionError as error:
            # A new user of Redis 7 may use no channel, and only remote control needs one. Ending the connection would
            # only repeat this, several times a second.
            log.warning("remote_control_off", why=str(error))
            return False
        except MISREAD as error:
            log.warning("control_message_dropped", error=type(error).__name__)
            return False


class Transport(redis.Transport):
    """kombu's Redis transport with this channel."""

    Channel = Channel


def register() -> None:
    """
    Let this transport serve all Redis URLs. Call it before the first connection; tasks/app.py does.

    The setting `broker_transport` works for redis:// only: for rediss:// kombu decides by the transport's name
    whether to use TLS, and redis+socket:// names its transport itself.
    """
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
        if get_transport_cls(scheme) is not Transport:  # kombu caches its lookups
            raise RuntimeError("a connection to Redis was made before the transport was registered")
