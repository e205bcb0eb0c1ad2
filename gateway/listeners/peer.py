"""Who is at the other end of a socket."""

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from gateway.listeners.addresses import ListenAddress

_CREDENTIALS: Final = struct.Struct("3i")
"""`struct ucred` of Linux: pid, uid, gid."""

CAN_TELL_PEERS: Final = hasattr(socket, "SO_PEERCRED")
"""Whether the system tells who is behind a Unix socket, in the way that we read."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end. *uid* and *pid* are known on Unix sockets alone."""

    listener: ListenAddress
    uid: int | None
    pid: int | None
    """0 if the process is in another pid namespace, as in another container."""

    address: str
    """As logs show it."""

    @property
    def source(self) -> str:
        """What its links are counted by: its user, or its host (of IPv6 the /64, which is one customer's)."""
        if self.uid is not None:
            return f"uid {self.uid}"
        return _host(self.address.rpartition(":")[0].strip("[]"))


def peer_of(listener: ListenAddress, sock: socket.socket) -> Peer:
    """Tell who has connected. Raises OSError if it has gone already."""
    if listener.scheme == "unix":
        pid, uid = _credentials(sock)
        return Peer(listener, uid, pid, f"uid={uid} pid={pid}")
    host, port, *_ = sock.getpeername()
    return Peer(listener, None, None, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _credentials(sock: socket.socket) -> tuple[int | None, int | None]:
    """Pid and uid of the process that connected, as they were then."""
    if not CAN_TELL_PEERS:
        return None, None
    pid, uid, _ = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return pid, uid


def _host(text: str) -> str:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(getattr(address, "ipv4_mapped", None) or address)
