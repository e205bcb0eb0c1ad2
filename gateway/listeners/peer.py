"""Who is at the other end of a socket, as the operating system says."""

from dataclasses import dataclass

from gateway.listeners.addresses import ListenAddress


@dataclass(frozen=True)
class Peer:
    """The process at the other end."""

    listener: ListenAddress
    uid: int | None
    pid: int | None
    """0 if it lives in another pid namespace."""
    address: str
    """For logs and bounds: host and port, or the uid of a Unix socket's peer."""
