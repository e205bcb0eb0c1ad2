"""The settings of `crawlyard gateway`; `Settings` inherits them, so that all stand in one object and on one page."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class GatewaySettings(BaseSettings):
    """What only a gateway uses. Workers read these settings too, but nothing of theirs depends on them."""

    gateway_listen: str = Field(
        "tcp://127.0.0.1:7433",
        max_length=10_000,
        description="where the gateway listens, addresses separated by commas: `unix:/path?mode=0660&group=…`, "
        "`tcp://127.0.0.1:7433` (elsewhere than on loopback only with `?insecure=yes`), `tls://`, `ws://`, `wss://`; "
        "docs/gateway.md lists their options",
    )
    gateway_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.:@-]{0,64}$",
        description="the name of this gateway, which no other one may have (none: the host's name)",
    )
    gateway_metrics: str = Field(
        "",
        max_length=300,
        description="host and port at which the gateway serves its figures over HTTP (`/metrics`, `/live`, `/ready`; "
        "none: nowhere)",
    )
    gateway_certificate: Path | None = Field(
        None, description="the file of the certificate, with its chain, that tls:// and wss:// listeners show"
    )
    gateway_key: Path | None = Field(
        None, description="the file of that certificate's private key (none: it is in the certificate's file)"
    )
    gateway_client_authority: Path | None = Field(
        None,
        description="the file of the authorities one of which must have issued the certificate of each crawler that "
        "comes by tls:// or wss:// (none: crawlers need no certificate)",
    )
    gateway_max_links: int | None = Field(
        None,
        ge=10,
        description="links that are open at once; at most what the limit of descriptors allows, less 200 "
        "(none: that many)",
    )
    gateway_max_links_per_peer: int | None = Field(
        None,
        ge=1,
        description="links that are open at once from one address, or of one user of this machine "
        "(none: nine tenths of all links)",
    )
    gateway_max_accept_rate: int = Field(
        1000, ge=1, le=100_000, description="links that are accepted a second; others wait in the backlog"
    )
    gateway_max_frame_rate: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="frames a second that are read of one link, in the mean over some seconds; what comes faster waits",
    )
    gateway_max_byte_rate: int = Field(
        4 * 1024**2,
        ge=1024,
        description="the same for bytes",
    )
    gateway_max_bytes: int = Field(
        256 * 1024**2,
        ge=16 * 1024**2,
        description="bytes that the gateway holds for all links together: unfinished frames, frames that wait, and "
        "what crawlers have not read yet; beyond it the link with the most is closed",
    )
