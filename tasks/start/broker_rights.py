"""
What a program needs from the broker's ACL, and what its user lacks.

Each command is sent as the program would send it, between MULTI and DISCARD: Redis checks the rights when it queues a
command, and so nothing is ever run. ACL DRYRUN would need a right that few users have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

import structlog
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from persistence.settings import settings
from tasks.routes import QUEUES, WAKE_UP_CHANNEL
from tasks.start.broker_client import open_client

log = structlog.get_logger()

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1, 30

_MUTEX, _INDEX, _UNACKED = "unacked_mutex", "unacked_index", "unacked"
_PIDBOX = "celery.pidbox"
_SHA = "0" * 40


@dataclass(frozen=True)
class Need:
    """A command as it is sent, and the keys or channels in it, without the prefix of our queues."""

    command: str
    before: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


PUBLISH = (
    *(Need("LPUSH", keys=(queue,), after=("",)) for queue in QUEUES),
    Need("PING"),
    Need("CLIENT SETNAME", after=("crawlyard",)),
)
"""What beat needs, and whoever publishes."""

CONSUME = (
    *PUBLISH,
    *(Need("RPUSH", keys=(queue,), after=("",)) for queue in QUEUES),
    *(Need("LLEN", keys=(queue,)) for queue in QUEUES),
    *(Need("BRPOP", keys=(queue,), after=("1",)) for queue in QUEUES),
    Need("TIME"),
    Need("ZADD", keys=(_INDEX,), after=("1", "")),
    Need("ZREM", keys=(_INDEX,), after=("",)),
    Need("ZRANGE", keys=(_INDEX,), after=("1", "0", "BYSCORE", "REV")),
    Need("HSET", keys=(_UNACKED,), after=("", "")),
    Need("HGET", keys=(_UNACKED,), after=("",)),
    Need("HDEL", keys=(_UNACKED,), after=("",)),
    Need("SET", keys=(_MUTEX,), after=("", "NX", "PX", "1")),
    Need("GET", keys=(_MUTEX,)),
    Need("DEL", keys=(_MUTEX,)),
    Need("EVALSHA", before=(_SHA, "1"), keys=(_MUTEX,), after=("",)),
    Need("SCRIPT LOAD", after=("return 1",)),
)
"""What a worker needs to consume."""

REMOTE_CONTROL = (
    Need("PSUBSCRIBE", channels=(_PIDBOX,)),
    Need("PUBLISH", channels=("celeryev/worker.heartbeat",), after=("",)),
    Need("SADD", keys=(f"_kombu.binding.{_PIDBOX}",), after=("",)),
    Need("ZADD", keys=("_kombu.binding_deadlines",), after=("1", "")),
    Need("LLEN", keys=(f"worker@host.{_PIDBOX}",)),
    Need("DEL", keys=(f"worker@host.{_PIDBOX}",)),
)
"""What only remote control needs, such as `celery inspect`. A worker works without it."""

WAKE_UPS = (
    Need("PUBLISH", channels=(WAKE_UP_CHANNEL,), after=("",)),
    Need("SUBSCRIBE", channels=(WAKE_UP_CHANNEL,)),
)
"""What workers need to wake gateways up, and gateways to be woken up. Without it orders come up to 50 ms later."""


@dataclass(frozen=True)
class Lack:
    """What a user of the broker lacks."""

    user: str
    commands: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.commands or self.keys or self.channels)

    def __str__(self) -> str:
        kinds = (("command", self.commands), ("key", self.keys), ("channel", self.channels))
        named = [f"the {kind}{'s'[: len(names) > 1]} {', '.join(names)}" for kind, names in kinds if names]
        return f"the broker's user {self.user} may not use {'; '.join(named)}"

    @property
    def remedy(self) -> str:
        """The command that grants all of it."""
        rules = [f"+{command.lower().replace(' ', '|')}" for command in self.commands]
        rules += [f"~{key}" for key in self.keys] + [f"&{channel}" for channel in self.channels]
        return f"ACL SETUSER {self.user} {' '.join(rules)}"


def lack_of(needs: Sequence[Need]) -> Lack:
    """Return what our user lacks of these. Raises the errors of redis-py, and ValueError for an unreadable URL."""
    user = urlsplit(settings().broker_url).username or "default"
    prefix = settings().queue_prefix
    try:
        database, answers = _rehearse(needs)
    except NoPermissionError as error:  # of MULTI, or of SELECT before it
        command = "SELECT" if "select" in str(error) else "MULTI"
        return Lack(user, commands=(command,))
    refused = [
        (need, str(answer))
        for need, answer in zip(needs, answers, strict=True)
        if isinstance(answer, NoPermissionError)
    ]
    # Redis and Valkey use these words in all versions.
    by_key = [need for need, text in refused if " key" in text]
    by_channel = [need for need, text in refused if "channel" in text]
    by_command = [need for need, _ in refused if need not in by_key and need not in by_channel]
    return Lack(
        user,
        tuple(dict.fromkeys(need.command for need in by_command)),
        tuple(dict.fromkeys(prefix + key for need in by_key for key in need.keys)),
        tuple(dict.fromkeys(f"{prefix}/{database}.{name}" for need in by_channel for name in need.channels)),
    )


def try_to_publish() -> None:
    """Return when the broker would accept a message. Raises the errors of redis-py."""
    _, (answer,) = _rehearse(PUBLISH[:1])
    if answer:
        raise answer


def wait_for_rights(
    needs: Sequence[Need], on_lack: Callable[[str], None], pause: Callable[[float], None]
) -> None:
    """
    Return when our user has all these rights, or when that cannot be known, since the broker does not answer.

    Says in one line what is missing, waits for longer each time, and calls *on_lack* with the reason.
    """
    for attempt in count():
        try:
            lack = lack_of(needs)
        except (RedisError, OSError, ValueError):
            return
        if not lack:
            return
        seconds = min(FIRST_PAUSE_S << min(attempt, 5), LONGEST_PAUSE_S)
        log.error("broker_rights_missing", why=str(lack), remedy=lack.remedy, next_try_in_s=seconds)
        on_lack(str(lack))
        pause(seconds)


def why_uncontrolled() -> str:
    """Return in one line why there is no remote control, and the remedy; nothing if there is, or may be."""
    try:
        lack = lack_of(REMOTE_CONTROL)
    except (RedisError, OSError, ValueError):
        return ""
    return f"no remote control (celery inspect): {lack}. To have it: {lack.remedy}" if lack else ""


def _rehearse(needs: Sequence[Need]) -> tuple[int, list[ResponseError | None]]:
    """Queue the commands after MULTI and run none; returns the number of the database, and what refuses each."""
    with open_client(settings().broker_url) as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command("MULTI")
            connection.read_response()  # without MULTI the commands would be run
            prefix = settings().queue_prefix
            sent = [_spelt(need, prefix, f"{prefix}/{connection.db}.") for need in needs]
            connection.send_packed_command(connection.pack_commands(sent))
            return connection.db, [_answer(connection.read_response) for _ in sent]
        finally:
            connection.disconnect()  # which discards all


def _spelt(need: Need, keys: str, channels: str) -> tuple[str, ...]:
    names = [*(keys + key for key in need.keys), *(channels + channel for channel in need.channels)]
    return (*need.command.split(), *need.before, *names, *need.after)


def _answer(read: Callable[[], object]) -> ResponseError | None:
    try:
        read()
    except ResponseError as error:
        return error
    return None
