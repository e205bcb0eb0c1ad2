"""
Reservations of refresh tokens: each refresh token is sent to its GitLab at most once.

A run of `credentials.refresh` reserves the token and commits before it calls. A reservation without an outcome is
never taken over, since its run may have sent the token.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import bindparam, delete, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from persistence.schema.ids import AccountId
from persistence.schema.sql import sql
from persistence.schema.tables import CredentialRefresh

_RESERVE = (
    insert(CredentialRefresh)
    .values(
        account_id=bindparam("account"),
        token_hash=bindparam("token"),
        claimed_by=bindparam("run"),
        started_at=func.clock_timestamp(),
    )
    .on_conflict_do_nothing()
)

_READ = sql("""
    SELECT reservation.outcome, reservation.started_at < clock_timestamp() - CAST(:patience AS interval) AS is_stale,
           reservation.claimed_by = :run AS is_own, account.refresh_token
      FROM credential_refresh reservation
      LEFT JOIN account ON account.id = reservation.account_id AND reservation.claimed_by = :run
                       AND $refresh_token_hash = reservation.token_hash
     WHERE reservation.account_id = :account AND reservation.token_hash = :token
""")

_IS_OPEN = (
    CredentialRefresh.account_id == bindparam("account"),
    CredentialRefresh.token_hash == bindparam("token"),
    CredentialRefresh.ended_at.is_(None),
)

_END = (
    update(CredentialRefresh)
    .where(*_IS_OPEN)
    .values(ended_at=func.clock_timestamp(), outcome=bindparam("result"))
    .execution_options(synchronize_session=False)
)

_CANCEL = (  # only this run's own: if its commit was in doubt, another run may have reserved the token since
    delete(CredentialRefresh)
    .where(*_IS_OPEN, CredentialRefresh.claimed_by == bindparam("run"))
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True)
class RefreshReservation:
    """A reservation of a refresh token, as read by one run."""

    outcome: str | None
    """None until the reservation has ended."""
    is_stale: bool
    """True if it is so old that its run can no longer be calling."""
    is_own: bool
    refresh_token: str | None = field(repr=False)
    """Only for the run that reserved it, and only while it is still the account's token."""


class Refreshes:
    """The table `credential_refresh`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def reserve(
        self, account_id: AccountId, token_hash: str, run: str, patience: timedelta
    ) -> RefreshReservation:
        """Reserve a refresh token for a run, unless it was reserved before; returns the reservation that exists."""
        key = {"account": account_id, "token": token_hash, "run": run}
        self._session.execute(_RESERVE, key)
        row = self._session.execute(_READ, key | {"patience": patience}).one()
        return RefreshReservation(row.outcome, row.is_stale, row.is_own, row.refresh_token)

    def end(self, account_id: AccountId, token_hash: str, outcome: str) -> None:
        """Record the outcome of an open reservation. The token is never reserved again."""
        self._session.execute(_END, {"account": account_id, "token": token_hash, "result": outcome})

    def cancel(self, account_id: AccountId, token_hash: str, run: str) -> None:
        """Delete a run's own open reservation: the token was certainly not used and may be reserved again."""
        self._session.execute(_CANCEL, {"account": account_id, "token": token_hash, "run": run})
