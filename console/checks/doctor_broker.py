"""The doctor's examination of the broker: its server, and whether it may drop messages."""

from collections.abc import Mapping
from typing import Any

from console.checks.broker import server_info
from console.checks.finding import Finding, judged

_OLDEST = (6, 2)


def examine_broker() -> list[Finding]:
    """Examine the server. Raises BrokerError if it does not answer."""
    info = server_info()
    return [_version(info), _eviction(info), _role(info), _cluster(info)]


def _version(info: Mapping[str, Any]) -> Finding:
    """Valkey reports the Redis version that it is compatible with, and that version counts."""
    redis, valkey = str(info["redis_version"]), info.get("valkey_version")
    return judged(
        "Redis",
        f"Valkey {valkey}, compatible with Redis {redis}" if valkey else redis,
        good=tuple(int(part) for part in redis.split(".")[:2]) >= _OLDEST,
        remedy="Crawlyard needs Redis 6.2 or later, or Valkey.",
    )


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    return judged(
        "maxmemory-policy",
        policy,
        good=policy == "noeviction",
        remedy="Set maxmemory-policy to noeviction, or Redis drops messages when memory runs short.",
    )


def _role(info: Mapping[str, Any]) -> Finding:
    role = str(info.get("role", "master"))
    return judged(
        "role",
        role,
        good=role == "master",
        remedy="Point BROKER_URL at the primary: a replica accepts no messages.",
    )


def _cluster(info: Mapping[str, Any]) -> Finding:
    enabled = bool(info.get("cluster_enabled", 0))
    return judged(
        "cluster mode",
        "on" if enabled else "off",
        good=not enabled,
        remedy="Use a server without cluster mode: Celery uses several keys in one command.",
    )
