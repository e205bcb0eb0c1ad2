"""All addresses on which a gateway listens."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from gateway.listeners.accept import Acceptor
from gateway.listeners.addresses import SETTING, ListenAddress
from gateway.listeners.bounds import Limits, Pace, raise_descriptor_limit
from gateway.listeners.stream import Shared
from gateway.listeners.tls import Tls, shrink_buffers
from gateway.listeners.transport import Receiver, Transport
from gateway.listeners.unix_socket import UnixSocket
from gateway.metrics import metrics
from persistence.exceptions import SettingsError
from persistence.settings import settings

_log = structlog.get_logger()

_LOOK_AT_FILES_S: Final = 5.0

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Listeners:
    """Listens on all *addresses*, and makes a link of each socket by *accept*, which is called in the loop."""

    def __init__(
        self,
        addresses: Sequence[ListenAddress],
        accept: Callable[[Transport], Receiver],
        limits: Limits | None = None,
        counters: Counter[str] | None = None,
    ) -> None:
        """Raises SettingsError if there are too few descriptors. Limits and counters are the process's own."""
        self._addresses = addresses
        self._accept = accept
        self._limits = limits or Limits.of(settings(), raise_descriptor_limit())
        self._shared = Shared.of(self._limits, metrics.bounds if counters is None else counters)
        self._acceptors: list[Acceptor] = []
        self._unix: list[UnixSocket] = []
        self._tls: Tls | None = None
        self._watch: asyncio.TimerHandle | None = None

    @property
    def counters(self) -> Counter[str]:
        """How often each bound was reached, by its code."""
        return self._shared.counters

    @property
    def links(self) -> int:
        """Links that are open, or whose handshake goes on."""
        return self._shared.admission.links

    @property
    def strangers(self) -> int:
        """Those of them whose crawlers are not known yet."""
        return self._shared.admission.strangers

    @property
    def held_bytes(self) -> int:
        """Input and output that is held for all links."""
        return self._shared.held.total

    @property
    def limits(self) -> Limits:
        """The bounds that hold."""
        return self._limits

    @property
    def addresses(self) -> list[ListenAddress]:
        """The addresses that are listened on, each with the port that the system chose where it names none."""
        return [acceptor.address for acceptor in self._acceptors]

    async def start(self) -> None:
        """Listen on all addresses, or on none. Raises SettingsError, which names the setting and the remedy."""
        if any(address.encrypted for address in self._addresses):
            shrink_buffers()
            self._tls = Tls.of(settings())
            self._watch_files()
        pace = Pace(self._limits.burst)
        try:
            for address in self._addresses:
                for bound, sock in await self._bound(address):
                    tls = self._tls if address.encrypted else None
                    acceptor = Acceptor(
                        bound, sock, accept=self._accept, shared=self._shared, pace=pace, tls=tls
                    )
                    self._acceptors.append(acceptor)
        except SettingsError:
            await self.stop_accepting()
            self._acceptors.clear()
            raise
        for acceptor in self._acceptors:
            acceptor.start()
            _log.info("listening", address=str(acceptor.address))

    async def stop_accepting(self) -> None:
        """Accept no more links; those that are open stay open."""
        for acceptor in self._acceptors:
            acceptor.stop()
        for unix in self._unix:
            unix.remove()
        self._unix.clear()
        if self._watch is not None:
            self._watch.cancel()

    async def close(self) -> None:
        """Close all links, each after what was sent, and wait until they are closed."""
        await self.stop_accepting()
        for link in self._shared.admission.all():
            link.close()
        await self._shared.admission.empty()

    def reload(self) -> None:
        """Read the certificate again, for new links. If it cannot be used, the one before stays, and this is logged."""
        if self._tls is None:
            return
        try:
            self._tls.load()
        except SettingsError as error:
            _log.error("certificate_not_loaded", error=str(error))
        else:
            _log.info("certificate_loaded")

    def _watch_files(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(_LOOK_AT_FILES_S, self._look_at_files)

    def _look_at_files(self) -> None:
        if self._tls is not None and self._tls.changed():
            self.reload()
        self._watch_files()

    async def _bound(self, address: ListenAddress) -> list[tuple[ListenAddress, socket.socket]]:
        """Bind an address; a host's name may stand for several."""
        if address.scheme == "unix":
            unix = UnixSocket(address)
            self._unix.append(unix)
            return [(address, unix.sock)]
        try:
            return await _internet(address)
        except OSError as error:
            raise SettingsError(
                f"{SETTING} names {address}, which cannot be listened on: {_remedy(error)}"
            ) from None


async def _internet(address: ListenAddress) -> list[tuple[ListenAddress, socket.socket]]:
    """
    Bind each address that a host's name stands for, but for those that this machine does not have.

    A name such as localhost often stands for an IPv6 address too, also in a container without IPv6.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[tuple[ListenAddress, socket.socket]] = []
    failed: OSError | None = None
    for family, _, _, _, place in dict.fromkeys(found):
        try:
            sock = _bind(family, place)
        except OSError as error:
            failed = error
            if error.errno not in _NOT_HERE:
                break
        else:
            bound.append((replace(address, port=sock.getsockname()[1]), sock))
    if failed and (not bound or failed.errno not in _NOT_HERE):
        for _, sock in bound:
            sock.close()
        raise failed
    return bound


def _bind(family: int, place: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another process listens there; stop it, or choose another port"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address; name one of its own, or 0.0.0.0 for all"
        case errno.EACCES:
            return "this user may not; choose a port from 1024 on"
        case errno.EAFNOSUPPORT:
            return "this machine has no IPv6; name an address of IPv4"
        case _:
            return f"{error.strerror or 'no such host'}; check host and port"
