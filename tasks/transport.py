"""The Redis transport, with every text that is popped from a queue made harmless before kombu reads it."""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, get_transport_cls, redis

from tasks.envelope import seal

SCHEMES = ("redis", "rediss")


class Channel(redis.Channel):
    """A channel whose BRPOP gives envelopes, also where the text in Redis was none."""

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        # redis-py's own hook for what a reply becomes. One step later kombu parses the text, where
        # an error ends the worker while the text is in no list any more.
        client = super()._create_client(asynchronous)
        client.set_response_callback("BRPOP", self._sealed)
        return client

    def _sealed(self, reply: list[bytes] | None, **_: Any) -> tuple[bytes, str] | None:
        if not reply:
            return None
        key, text = reply
        # The list of a priority is the queue's name, a separator and a digit; it goes on without it.
        queue = key.decode().rsplit(self.sep, 1)[0]
        return key, seal(text, queue)


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
