"""
The access tokens that the sender of a message may know, to mask them by value in all that is stored of it.

A token need not look like one: an older GitLab's has 64 hexadecimal digits. Only access tokens are read, since no
crawler gets another secret. A token that was rotated away is not known here, and is found by its pattern alone.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.db.json_tree import walk
from persistence.sanitize.text import spellings

SHORTEST = 16
"""A shorter token is not masked by value: it may be a word that stands anywhere."""

_MAX_IDS = 1000
_MAX_VALUES = 100_000

_ULID = re.compile(r"(?<![0-9A-Z])[0-7][0-9A-HJKMNP-TV-Z]{25}(?![0-9A-Z])", re.ASCII)

# Each branch reads an index; the second reads that of the live attempts, whose predicate stands there likewise.
_ACCESS_TOKENS = text("""
    SELECT DISTINCT access_token FROM account
     WHERE length(access_token) >= :shortest AND id IN (
               SELECT account_id FROM job_assignment_mapping WHERE crawler_job_id = ANY(CAST(:fences AS text[]))
               UNION ALL
               SELECT account_id FROM job_assignment_mapping a
                WHERE a.connection_id = ANY(CAST(:connections AS text[])) AND a.completed_at IS NULL
               UNION ALL
               SELECT "accountId" FROM job WHERE id = ANY(CAST(:jobs AS text[])))
""")


class KnownTokens:
    """The access tokens of the accounts that the current message names. They are read when a text is stored."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._fences: set[str] = set()
        self._connections: set[str] = set()
        self._jobs: set[str] = set()
        self._read: tuple[str, ...] | None = None

    def name(
        self, *, fences: Iterable[str] = (), connections: Iterable[str] = (), jobs: Iterable[str] = ()
    ) -> None:
        """
        Mask the tokens of these attempts, of the live attempts of these connections, and of these jobs.

        Nothing is read yet. After tokens were read, naming more has all read again.
        """
        before = len(self._fences) + len(self._connections) + len(self._jobs)
        self._fences.update(fences)
        self._connections.update(connections)
        self._jobs.update(jobs)
        if len(self._fences) + len(self._connections) + len(self._jobs) > before:
            self._read = None

    def name_within(self, payload: object) -> None:
        """Mask the tokens of whatever attempts, connections and jobs are named anywhere in a message."""
        found = list(islice(_ulids_within(payload), _MAX_IDS))
        self.name(fences=found, connections=found, jobs=found)

    def values(self) -> tuple[str, ...]:
        """The tokens, of at least 16 characters. Read by one statement at the first call; none is sent without ids."""
        if self._read is None:
            self._read = self._read_tokens() if self._fences or self._connections or self._jobs else ()
        return self._read

    def _read_tokens(self) -> tuple[str, ...]:
        values = {
            "shortest": SHORTEST,
            "fences": list(self._fences),
            "connections": list(self._connections),
            "jobs": list(self._jobs),
        }
        tokens = self._session.scalars(_ACCESS_TOKENS, values)
        return tuple(spelling for token in tokens for spelling in spellings(token))


def _ulids_within(payload: Any) -> Iterable[str]:
    for value, _ in islice(walk(payload), _MAX_VALUES):
        if isinstance(value, str):
            yield from _ULID.findall(value)
