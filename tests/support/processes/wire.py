"""A wire between a client and a server on loopback that can go dead silently, or lead to another server."""

import socket
import threading
from contextlib import suppress


class Wire:
    """
    A TCP port that forwards to another; later connections may lead to a different server.

    A dead link stays open at both ends and carries nothing, as after a network was cut, or when a router has lost the
    connection.
    """

    def __init__(self, port: int) -> None:
        self.leads_to = port
        self._is_dead = False
        self._links: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def go_dead(self, *, for_good: bool = False) -> None:
        """Make all existing links dead; new ones work unless *for_good*."""
        self._is_dead = for_good
        for link in self._links:
            link.is_dead = True

    def cut(self) -> None:
        """Close all existing links at both ends."""
        for link in self._links:
            link.close()
        self._links.clear()

    def close(self) -> None:
        """Close the wire and its port."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        self._accepting.join()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.leads_to))
                except OSError:
                    client.close()
                    continue
                self._links.append(_Link(client, server, is_dead=self._is_dead))


class _Link:
    """One connection, with a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket, *, is_dead: bool) -> None:
        self.is_dead = is_dead
        self._ends = (client, server)
        for ends in (self._ends, self._ends[::-1]):
            threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def close(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.is_dead:
                    sink.sendall(data)
        if not self.is_dead:
            self.close()
