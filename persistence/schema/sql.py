"""
SQL text that names states and predicates instead of spelling them.

    _FAIL = sql("UPDATE job SET status = $job_failed WHERE id = :id AND status IN $job_crawlable")

One state is `$job_failed`, `$entry_pending`, `$attempt_running`; a set is `$job_ended`, `$attempt_live`. The
predicates below stand for more than a status. All become literals when the module is loaded, not parameters:
partial indexes serve a statement that repeats their words, and a status may be an enum of the web app's, to which
text as a parameter is not cast. A `$` of its own is written `$$`.
"""

from collections.abc import Iterable
from enum import StrEnum
from string import Template

from sqlalchemy import ARRAY, ColumnElement, Text, TextClause, any_, bindparam, text
from sqlalchemy.orm import InstrumentedAttribute

from persistence.schema import states
from persistence.schema.states import AttemptStatus, EntryStatus, JobStatus

LIVE = "completed_at IS NULL"
"""
An attempt that goes on, in the words of the partial indexes.

A statement that knows its attempts by fence says `status IN $attempt_live` instead, which no index repeats. To the
planner the index of the live looks short, and it read that one through. It holds all that have lived since the last
vacuum: after 60,000 lives beside an open snapshot, 61 ms instead of 4 for 500 fences.
"""

CLAIMABLE = f"status = '{EntryStatus.PENDING}' AND ready AND NOT held"
"""An entry that the next round may assign, in the words of the claim index."""

_HASH = "encode(sha256(convert_to($column, 'UTF8')), 'hex')"

ACCESS_TOKEN_HASH = Template(_HASH).substitute(column="account.access_token")
REFRESH_TOKEN_HASH = Template(_HASH).substitute(column="account.refresh_token")
"""The SHA-256 of a token of `account`, in hex. Postgres computes it, so that no token leaves the database for it."""

SUSPECT_LOSSES = 2
"""A job that was lost this often in a row is assigned alone, so that its neighbours are not blamed."""


def _list(members: Iterable[StrEnum]) -> str:
    return "(" + ", ".join(f"'{member}'" for member in sorted(members)) + ")"


_NAMES = {
    "live": LIVE,
    "claimable": CLAIMABLE,
    "suspect_losses": str(SUSPECT_LOSSES),
    "access_token_hash": ACCESS_TOKEN_HASH,
    "refresh_token_hash": REFRESH_TOKEN_HASH,
    **{
        f"{prefix}_{member.name.lower()}": f"'{member}'"
        for prefix, kind in (("job", JobStatus), ("entry", EntryStatus), ("attempt", AttemptStatus))
        for member in kind
    },
    **{name.lower(): _list(value) for name, value in vars(states).items() if isinstance(value, frozenset)},
}


def sql(statement: str, **fragments: str) -> TextClause:
    """
    A text statement, with `$names` of states, predicates, and *fragments* of the module's own filled in.

    Raises KeyError for a name that there is not.
    """
    return text(fragment(statement, **fragments))


def fragment(part: str, **fragments: str) -> str:
    """A part of a statement, for the fragments of several."""
    return Template(part).substitute(_NAMES, **fragments)


def among(column: InstrumentedAttribute[str], name: str = "ids") -> ColumnElement[bool]:
    """
    `column = ANY (:ids)`, for statements in Core: a list is one parameter, however long.

    `column.in_(...)` would make a parameter of each member, and another statement for each length.
    """
    return column == any_(bindparam(name, type_=ARRAY(Text)))
