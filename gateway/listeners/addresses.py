"""Addresses to listen on, as CRAWLYARD_GATEWAY_LISTEN names them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ListenAddress:
    """An address to listen on, with its options."""

    scheme: str
    """unix, tcp, tls, ws or wss."""
    path: str = ""
    """Of a Unix socket."""
    host: str = ""
    port: int = 0
    options: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def dialect(self) -> str | None:
        """`original`, or None for protocol 1."""
        return self.options.get("dialect")

    @property
    def crawler(self) -> str | None:
        """The name of the one crawler that comes here."""
        return self.options.get("crawler")

    @property
    def trusts_peer(self) -> bool:
        """True if the uid of a peer is asked for instead of a secret."""
        return self.options.get("trust") == "peer"
