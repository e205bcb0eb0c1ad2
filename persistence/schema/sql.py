"""
SQL text in which states and predicates are named, not spelled.

    _FAIL = sql("UPDATE job SET status = $job_failed WHERE id = :id AND status IN $job_crawlable")

`$job_failed`, `$entry_pending` and `$attempt_running` are states; `$job_ended` and `$attempt_live` are sets of them;
`$live` and `$claimable` are the predicates below. All become literals when the module is imported, not parameters,
for two reasons: a partial index is used only if the statement repeats its predicate, and a status may be an enum of
the web app, to which a text parameter is not cast. A literal `$` is written `$$`.
"""

from collections.abc import Iterable
from enum import StrEnum
from string import Template

from sqlalchemy import ARRAY, ColumnElement, Text, TextClause, any_, bindparam, literal_column, text
from sqlalchemy.orm import InstrumentedAttribute

from persistence.schema import states
from persistence.schema.states import AreaChangeStatus, AttemptStatus, EntryStatus, JobStatus

LIVE = "completed_at IS NULL"
"""
An attempt is live, as the partial indexes spell it.

A statement that looks attempts up by fence uses `status IN $attempt_live` instead, which matches no partial index.
With this predicate the planner takes the index of live attempts for a short one and reads all of it, but it holds
every attempt since the last vacuum: after 60,000 attempts under an open snapshot, 500 fences took 61 ms, not 4.
"""

CLAIMABLE = f"status = '{EntryStatus.PENDING}' AND ready AND NOT held"
"""The next round may assign the entry, as the claim index spells it."""

_HASH = "encode(sha256(convert_to($column, 'UTF8')), 'hex')"

ACCESS_TOKEN_HASH = Template(_HASH).substitute(column="account.access_token")
REFRESH_TOKEN_HASH = Template(_HASH).substitute(column="account.refresh_token")
"""The SHA-256 of a token of `account`, in hex. Postgres computes it, so that no token leaves the database for it."""

HAS_ANOTHER_TOKEN = f"lane.held_token IS DISTINCT FROM {ACCESS_TOKEN_HASH}"
"""True if an account no longer has the token that it is blocked for, or that is in doubt."""

SUSPECT_LOSSES = 2
"""A job with this many losses in a row is assigned alone, so that no other job shares the blame for the next."""

MAX_LOSSES = 5
"""Losses in a row; the fifth fails the job."""


def _list(members: Iterable[StrEnum]) -> str:
    return "(" + ", ".join(f"'{member}'" for member in sorted(members)) + ")"


_NAMES = {
    "live": LIVE,
    "claimable": CLAIMABLE,
    "suspect_losses": str(SUSPECT_LOSSES),
    "max_losses": str(MAX_LOSSES),
    "access_token_hash": ACCESS_TOKEN_HASH,
    "refresh_token_hash": REFRESH_TOKEN_HASH,
    **{
        f"{prefix}_{member.name.lower()}": f"'{member}'"
        for prefix, kind in (
            ("job", JobStatus),
            ("entry", EntryStatus),
            ("attempt", AttemptStatus),
            ("change", AreaChangeStatus),
        )
        for member in kind
    },
    **{name.lower(): _list(value) for name, value in vars(states).items() if isinstance(value, frozenset)},
}


def sql(statement: str, **fragments: str) -> TextClause:
    """
    Make a statement of text that names states, predicates and the *fragments* given.

    Raises KeyError for an unknown name.
    """
    return text(fragment(statement, **fragments))


def fragment(part: str, **fragments: str) -> str:
    """Fill in a part that several statements share, to be passed to `sql` as a fragment."""
    return Template(part).substitute(_NAMES, **fragments)


def among(
    column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None], name: str = "ids"
) -> ColumnElement[bool]:
    """
    `column = ANY (:ids)` for statements in Core: the whole list is one parameter.

    `column.in_(...)` would make one parameter per id, and another statement for each length.
    """
    return column == any_(bindparam(name, type_=ARRAY(Text)))


def literal(member: StrEnum) -> ColumnElement[str]:
    """A state, as a literal, for statements in Core."""
    return literal_column(f"'{member}'", Text)


def one_of(column: InstrumentedAttribute[str], members: Iterable[StrEnum]) -> ColumnElement[bool]:
    """`column IN ('queued', 'running')`, for statements in Core: the states are literals."""
    return column.in_([literal(member) for member in sorted(members)])
