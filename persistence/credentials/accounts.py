"""Accounts and users of the web app: looked at and held against deletion, never changed."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from persistence.schema.web_app import Account, User


class Accounts:
    """The web app's accounts and users."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_key_share(self, account_ids: Iterable[str]) -> set[str]:
        """Lock those of the accounts that exist FOR KEY SHARE, in order: they cannot go before we commit."""
        return self._lock_key_share(Account.id, account_ids)

    def lock_users_key_share(self, user_ids: Iterable[str]) -> set[str]:
        """As `lock_key_share`, for users."""
        return self._lock_key_share(User.id, user_ids)

    def _lock_key_share(self, column: InstrumentedAttribute[str], ids: Iterable[str]) -> set[str]:
        wanted = sorted(set(ids))
        if not wanted:
            return set()
        statement = select(column).where(column.in_(wanted)).order_by(column.collate("C"))
        return set(self._session.scalars(statement.with_for_update(read=True, key_share=True)))
