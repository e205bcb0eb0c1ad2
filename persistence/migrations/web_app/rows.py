"""
The kinds of rows that we write into the web app's tables, as data: each state that a job goes through, and each area.

Only columns whose values we choose are here, and those of which only NULL or not NULL matters. A CHECK of another
column is the web app's own matter.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from persistence.schema.commands import COMMANDS_OF_AREA, AreaType
from persistence.schema.states import JobStatus

_CREATED, _STARTED, _FINISHED, _UPDATED = (f"2026-05-04T0{hour}:00:00Z" for hour in range(1, 5))

_UNBEGUN, _BEGUN = (None, None), (_STARTED, None)
_NEVER_BEGUN, _DONE = (None, _FINISHED), (_STARTED, _FINISHED)

_TIMES: Final = {
    JobStatus.QUEUED: (_UNBEGUN, _BEGUN),
    JobStatus.RUNNING: (_BEGUN,),
    JobStatus.PAUSED: (_UNBEGUN, _BEGUN),
    JobStatus.WAITING_CREDENTIAL_RENEWAL: (_UNBEGUN, _BEGUN),
    JobStatus.CREDENTIAL_EXPIRED: (_UNBEGUN, _BEGUN),
    JobStatus.FINISHED: (_DONE,),
    JobStatus.FAILED: (_NEVER_BEGUN, _DONE),
    JobStatus.CANCELLED: (_NEVER_BEGUN, _DONE),
}
"""When a job in a state was started and finished, as far as we set it."""

_PATHS: Final = {AreaType.GROUP: "lab", AreaType.PROJECT: "lab/tool"}
_IDS: Final = {AreaType.GROUP: "gid://gitlab/Group/7", AreaType.PROJECT: "gid://gitlab/Project/42"}


def _jobs() -> Iterator[dict[str, Any]]:
    """Jobs that a discovery makes, of each command in each state."""
    for type_, commands in COMMANDS_OF_AREA.items():
        for command in commands:
            for status, times in _TIMES.items():
                for started, finished in times:
                    yield {
                        "command": command,
                        "full_path": _PATHS[type_],
                        "branch": None,
                        "spawned_from": "01JZ0000000000000000000000",
                        "status": status,
                        "created_at": _CREATED,
                        "started_at": started,
                        "finished_at": finished,
                        "updatedAt": _UPDATED,
                    }


def _accounts() -> Iterator[dict[str, Any]]:
    """Accounts whose tokens were refreshed: the answer may not tell how long they are valid."""
    tokens = {"access_token": "access", "refresh_token": "refresh", "updated_at": _UPDATED}
    for expiry in (_FINISHED, None):
        yield tokens | {"access_token_expires_at": expiry}


ROWS: Final[Mapping[str, list[dict[str, Any]]]] = {
    "account": list(_accounts()),
    "area": [
        {"full_path": _PATHS[type_], "gitlab_id": _IDS[type_], "name": "Lab", "type": type_}
        for type_ in AreaType
    ],
    "job": list(_jobs()),
}
