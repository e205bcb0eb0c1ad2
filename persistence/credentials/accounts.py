"""
Accounts and users of the web app, and the accounts' tokens.

`account` is the only table that contains tokens. Elsewhere a token is known by its SHA-256.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from sqlalchemy import Interval, Select, bindparam, func, literal_column, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from persistence.sanitize.text import REDACTED
from persistence.schema.ids import AccountId
from persistence.schema.sql import REFRESH_TOKEN_HASH, among, sql
from persistence.schema.web_app import Account, User


def _lock_key_share(column: InstrumentedAttribute[str]) -> Select[str]:
    """FOR KEY SHARE, in the order of ids: the rows can be changed, but not deleted."""
    return (
        select(column)
        .where(among(column))
        .order_by(column.collate("C"))
        .with_for_update(read=True, key_share=True)
    )


_LOCK_ACCOUNTS = _lock_key_share(Account.id)

_LOCK_USERS = _lock_key_share(User.id)

_WITHOUT_TOKENS = sql("""
    SELECT message.place, replace(message.text, account.access_token, :redacted) AS text
      FROM unnest(CAST(:accounts AS text[]), CAST(:texts AS text[]))
           WITH ORDINALITY AS message(account_id, text, place)
      JOIN account ON account.id = message.account_id AND account.access_token <> ''
""")

_WRITE_TOKENS = (
    update(Account)
    .where(
        Account.id == bindparam("account"),
        literal_column(REFRESH_TOKEN_HASH) == bindparam("replaced_token_hash"),
    )
    .values(
        access_token=bindparam("new_access_token"),
        refresh_token=func.coalesce(bindparam("new_refresh_token"), Account.refresh_token),
        access_token_expires_at=func.clock_timestamp() + bindparam("lifetime", type_=Interval),
        updated_at=func.now(),
    )
    .returning(Account.id)
    .execution_options(synchronize_session=False)
)


class Accounts:
    """The web app's tables `account` and `user`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_key_share(self, account_ids: Iterable[str]) -> set[str]:
        """Lock the accounts FOR KEY SHARE, in id order, so that none is deleted; returns those that exist."""
        return self._lock(_LOCK_ACCOUNTS, account_ids)

    def lock_users_key_share(self, user_ids: Iterable[str]) -> set[str]:
        """Lock the users FOR KEY SHARE, in id order, so that none is deleted; returns those that exist."""
        return self._lock(_LOCK_USERS, user_ids)

    def without_tokens(self, messages: Sequence[tuple[AccountId, str]]) -> list[str]:
        """The texts of these messages about accounts, with each account's own access token redacted."""
        values = {
            "accounts": [id_ for id_, _ in messages],
            "texts": [text for _, text in messages],
            "redacted": REDACTED,
        }
        redacted = {row.place: row.text for row in self._session.execute(_WITHOUT_TOKENS, values)}
        return [redacted.get(place, text) for place, (_, text) in enumerate(messages, 1)]

    def write_tokens(
        self,
        account_id: AccountId,
        token_hash: str,
        access_token: str,
        refresh_token: str | None,
        lifetime: timedelta | None,
    ) -> bool:
        """
        Replace the tokens of an account if its refresh token still has this hash; returns whether it had.

        Without a new *refresh_token* the old one stays.
        """
        values = {
            "account": account_id,
            "replaced_token_hash": token_hash,
            "new_access_token": access_token,
            "new_refresh_token": refresh_token,
            "lifetime": lifetime,
        }
        return self._session.execute(_WRITE_TOKENS, values).one_or_none() is not None

    def _lock(self, statement: Select[str], ids: Iterable[str]) -> set[str]:
        wanted = sorted(set(ids))
        return set(self._session.scalars(statement, {"ids": wanted})) if wanted else set()
