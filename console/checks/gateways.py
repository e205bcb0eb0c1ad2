"""Brings together what the broker and the database know of gateways: their signs of life, and the connections."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from console.checks.broker import broker_client
from gateway.sign_of_life import KEY, NAMES, Sign
from persistence.reports.gateways import GatewayConnections
from persistence.settings import settings

_MOST = 1000
"""The latest to give a sign."""


@dataclass(frozen=True)
class GatewayState:
    """What is known of a gateway."""

    name: str
    state: str
    """`serving`, `waiting` or `draining` as it says itself; `missing` if it gave no sign for 20 s and was not stopped;
    `unknown` if the broker knows nothing of it, as of a gateway of your own."""
    connections: GatewayConnections | None
    """What Postgres knows: the connections that name it; None if none does."""
    last_sign: timedelta | None = None
    """How long ago its last sign of life was, by the clocks of its machine and of this one."""
    host: str | None = None
    pid: int | None = None
    version: str | None = None
    started_at: datetime | None = None
    up: timedelta | None = None
    sockets: int | None = None
    """The links that it holds, by itself."""
    listeners: list[str] = field(default_factory=list)
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenGateway:
    """A name on the broker: when it last gave a sign, and that sign unless it has expired."""

    seen_at: float
    sign: Sign | None


def read_signs() -> dict[str, SeenGateway]:
    """The gateways that the broker knows of, by name. Raises BrokerError."""
    prefix = settings().queue_prefix
    with broker_client() as client:
        named: Any = client.zrange(prefix + NAMES, 0, _MOST - 1, desc=True, withscores=True)
        seen = {name.decode(errors="replace"): float(at) for name, at in named}
        texts: Any = client.mget([f"{prefix}{KEY}{name}" for name in seen]) if seen else []
    signs = zip(seen.items(), texts, strict=True)
    return {name: SeenGateway(at, Sign.of_text(text) if text else None) for (name, at), text in signs}


def gateway_states(
    signs: Mapping[str, SeenGateway], connections: Mapping[str, GatewayConnections]
) -> list[GatewayState]:
    """All that is known, by name."""
    return [_state(name, signs.get(name), connections.get(name)) for name in sorted({*signs, *connections})]


def _state(name: str, seen: SeenGateway | None, connections: GatewayConnections | None) -> GatewayState:
    if seen is None:
        return GatewayState(name, "unknown", connections)
    now, sign = time.time(), seen.sign
    last_sign = timedelta(seconds=now - seen.seen_at)
    if sign is None:
        return GatewayState(name, "missing", connections, last_sign)
    return GatewayState(
        name,
        sign.state,
        connections,
        last_sign,
        host=sign.host,
        pid=sign.pid,
        version=sign.version,
        started_at=datetime.fromtimestamp(sign.started_at, UTC),
        up=timedelta(seconds=now - sign.started_at),
        sockets=sign.links,
        listeners=list(sign.listeners),
        figures=sign.figures,
    )
