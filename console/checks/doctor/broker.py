"""The doctor's examination of the broker: its server, whether it may drop messages, and which workers listen there."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from console.checks.broker import BrokerError, lacking, server_info
from console.checks.doctor.finding import Finding, judged
from console.output.screen import counted
from tasks.start.broker_rights import CONSUME, REMOTE_CONTROL, WAKE_UPS, Lack, Need
from tasks.worker.remote_control import WorkerAnswer, ask_workers

_OLDEST = (6, 2)
_NAMED = 3
"""The most workers that a finding names."""
_INFO = (Need("INFO"),)


def examine_broker() -> list[Finding]:
    """Examine our rights, the server and its workers. Raises BrokerError if it does not answer."""
    return [
        _rights(lacking(CONSUME)),
        *_wake_ups(lacking(WAKE_UPS)),
        *_server(lacking(_INFO)),
        *_listeners(lacking(REMOTE_CONTROL)),
    ]


def _server(unreadable: Lack) -> list[Finding]:
    if unreadable:
        return [_unreadable(unreadable)]
    info = server_info()
    return [_version(info), _eviction(info), _role(info), _cluster(info)]


def _rights(lack: Lack) -> Finding:
    return judged(
        "broker rights",
        str(lack) if lack else "sufficient to consume and to publish",
        good=not lack,
        remedy=f"{lack.remedy}. Workers and beat wait for it.",
    )


def _wake_ups(lack: Lack) -> list[Finding]:
    if not lack:
        return []
    detail = f"{lack}; gateways are not woken up by workers, and find orders up to 50 ms later"
    return [Finding("wake-ups", "warning", detail, f"{lack.remedy}, if gateways should find orders at once.")]


def _listeners(lack: Lack) -> list[Finding]:
    if not lack:
        return [_workers(_answers())]
    detail = f"{lack}; workers need none of it, but cannot be asked for their versions"
    return [Finding("remote control", "warning", detail, f"{lack.remedy}, if `celery inspect` should work.")]


def _unreadable(lack: Lack) -> Finding:
    return Finding(
        "Redis",
        "warning",
        f"version, maxmemory-policy, role and cluster mode cannot be examined: {lack}",
        f"{lack.remedy} to have them examined, or see that maxmemory-policy is noeviction. Crawlyard needs no INFO.",
    )


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


def _answers() -> list[WorkerAnswer]:
    from tasks.app import app  # noqa: PLC0415 - importing it reads the settings, which must have been checked first

    try:
        return ask_workers(app)
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerError(f"The broker cannot be used: {error}") from None


def _workers(answers: list[WorkerAnswer]) -> Finding:
    """A worker of 0.4.1 or before does not tell its version, whether it has attempts or is idle."""
    older = [answer.name for answer in answers if answer.version is None]
    versions = Counter(answer.version for answer in answers if answer.version is not None)
    told = ", ".join(
        f"{counted(count, 'worker')} of {version}" for version, count in sorted(versions.items())
    )
    names = ", ".join(older[:_NAMED]) + (", …" if len(older) > _NAMED else "")
    return judged(
        "workers",
        f"{counted(len(older), 'worker')} without a version answer, possibly of 0.4.1 or before: {names}"
        if older
        else told or "none answers",
        good=not older,
        remedy="Stop the workers of 0.4.1: they send a token wherever a job says. The check of origins holds from when "
        "the last of them is gone.",
        otherwise="warning",
    )
