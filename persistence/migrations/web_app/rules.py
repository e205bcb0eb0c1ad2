"""
What Crawlyard needs of the web app's columns, as data: those that a statement of ours reads or writes, and no others.

`tables` compares them with a database. A column that is not listed may have any type.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from persistence.schema.commands import COMMANDS_OF_AREA, AreaType, Command
from persistence.schema.states import JobStatus

_ULID: Final = 26
_GLOBAL_ID: Final = 40
"""Such as gid://gitlab/Project/42, with as many digits as GitLab's ids have."""
_TOKEN: Final = 255


class Kind(Enum):
    """The types that a column may have; the value is what people call it."""

    TEXT = "text"
    WORD = "text or an enum"
    TIME = "timestamptz"
    JSON = "jsonb"


@dataclass(frozen=True)
class Rule:
    """What is needed of one column."""

    kind: Kind
    length: int = 0
    """What we write there is at least this long, so that a shorter varchar would refuse it."""
    labels: frozenset[str] = frozenset()
    """What we write there, or compare it with: an enum or a CHECK must know these."""
    is_emptied: bool = False
    """True if we write NULL there."""


_ID = Rule(Kind.TEXT)
_TIME = Rule(Kind.TIME)
_WORD = Rule(Kind.WORD)


def _word(*labels: str) -> Rule:
    return Rule(Kind.WORD, max(map(len, labels)), frozenset(labels))


RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "user": {"id": _ID},
    "account": {
        "id": _ID,
        "provider_id": _WORD,
        "access_token": Rule(Kind.TEXT, _TOKEN),
        "refresh_token": Rule(Kind.TEXT, _TOKEN),
        "access_token_expires_at": Rule(Kind.TIME, is_emptied=True),
        "refresh_token_expires_at": _TIME,
        "updated_at": _TIME,
    },
    "area": {
        "full_path": _ID,
        "gitlab_id": Rule(Kind.TEXT, _GLOBAL_ID),
        "name": Rule(Kind.TEXT),
        "type": _word(*AreaType),
    },
    "area_authorization": {"accountId": _ID, "area_id": _ID},
    "job": {
        "id": Rule(Kind.TEXT, _ULID),
        "created_at": _TIME,
        "started_at": _TIME,
        "finished_at": Rule(Kind.TIME, is_emptied=True),
        "status": _word(*(status for status in JobStatus if status != JobStatus.UNKNOWN)),
        "command": _word(
            Command.AUTHORIZATION_SCOPE,
            Command.GROUP_PROJECT_DISCOVERY,
            Command.USERS,
            *(command for commands in COMMANDS_OF_AREA.values() for command in commands),
        ),
        "full_path": Rule(Kind.TEXT, is_emptied=True),
        "branch": Rule(Kind.TEXT, is_emptied=True),
        "accountId": _ID,
        "spawned_from": Rule(Kind.TEXT, _ULID, is_emptied=True),
        "resume_state": Rule(Kind.JSON, is_emptied=True),
        "progress": Rule(Kind.JSON),
        # NULL only for an order without a user, which may never come; such an order would be rejected.
        "userId": _ID,
        "provider": _WORD,
        "gitlabGraphQLUrl": Rule(Kind.TEXT),
        "updatedAt": _TIME,
    },
    "job_area": {"jobId": Rule(Kind.TEXT, _ULID), "full_path": _ID},
}

INSERTED: Final[Mapping[str, frozenset[str]]] = {
    "area": frozenset({"full_path", "gitlab_id", "name", "type"}),
    "area_authorization": frozenset({"accountId", "area_id"}),
    "job": frozenset(
        {"id", "command", "full_path", "branch", "accountId", "userId", "provider", "gitlabGraphQLUrl"}
        | {"spawned_from", "status", "created_at", "updatedAt"}
    ),
    "job_area": frozenset({"jobId", "full_path"}),
}
"""The columns that our inserts name, by table. The others must have a default, or may be NULL."""

KEYS: Final = (
    ("account", ("id",)),
    ("area", ("full_path",)),
    ("area", ("gitlab_id",)),
    ("area_authorization", ("accountId", "area_id")),
    ("job", ("id",)),
    ("job_area", ("jobId", "full_path")),
)
"""What must be unique: without it our ON CONFLICT would never find one, and rows would be there twice."""

OLDER_TIMES: Final[Mapping[str, frozenset[str]]] = {
    "socket_connection": frozenset({"connected_at", "last_heartbeat"}),
    "job_queue": frozenset({"scheduled_at", "last_attempt_at"}),
    "job_assignment_mapping": frozenset({"created_at", "assigned_at", "completed_at"}),
    "job_error_log": frozenset({"timestamp"}),
}
"""The times that are copied from an older component's tables."""
