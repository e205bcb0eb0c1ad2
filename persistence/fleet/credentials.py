"""
The table `crawler_credential`: who may connect as a crawler. Of a secret only its hash is kept.

One credential serves many processes of a crawler, which its gateway tells apart by their crawlerId.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from ulid import ULID

from persistence.schema.tables import CrawlerCredential

_NOW = func.clock_timestamp()


@dataclass(frozen=True)
class EnrolledCrawler:
    """A credential, for operators."""

    name: str
    id: str
    capacity: int | None
    created_at: datetime
    last_used_at: datetime | None
    rotated_at: datetime | None
    former_valid_until: datetime | None
    """Until when the secret before the last rotation may be used."""
    revoked_at: datetime | None


class CrawlerCredentials:
    """The table `crawler_credential`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def enroll(self, name: str, secret_hash: str, capacity: int | None) -> str | None:
        """Add a credential and return its id; None if the name is taken, also by one that is revoked."""
        new = (
            insert(CrawlerCredential)
            .values(id=str(ULID()), name=name, secret_hash=secret_hash, capacity=capacity)
            .on_conflict_do_nothing()
            .returning(CrawlerCredential.id)
        )
        return self._session.scalars(new).one_or_none()

    def rotate(self, name: str, secret_hash: str, keep: timedelta) -> bool:
        """Replace a secret; the former one stays valid for *keep*. Returns False if there is no such valid one."""
        return self._change(
            name,
            former_hash=CrawlerCredential.secret_hash,
            former_valid_until=_NOW + keep,
            secret_hash=secret_hash,
            rotated_at=_NOW,
        )

    def revoke(self, name: str) -> bool:
        """Make a credential invalid for good. Returns False if there is no such valid one."""
        return self._change(name, revoked_at=_NOW)

    def _change(self, name: str, **values: object) -> bool:
        changed = (
            update(CrawlerCredential)
            .where(CrawlerCredential.name == name, CrawlerCredential.revoked_at.is_(None))
            .values(values)
            .returning(CrawlerCredential.id)
            .execution_options(synchronize_session=False)
        )
        return self._session.scalars(changed).one_or_none() is not None

    def note_use(self, ids: set[str]) -> None:
        """Note that credentials are used; to the minute, so that reconnections write little."""
        used = CrawlerCredential.last_used_at
        if ids:
            self._session.execute(
                update(CrawlerCredential)
                .where(
                    CrawlerCredential.id.in_(
                        select(CrawlerCredential.id)
                        .where(
                            CrawlerCredential.id.in_(sorted(ids)),
                            or_(used.is_(None), used < _NOW - timedelta(minutes=1)),
                        )
                        .order_by(CrawlerCredential.id)
                        .with_for_update(skip_locked=True)
                    )
                )
                .values(last_used_at=_NOW)
                .execution_options(synchronize_session=False)
            )

    def all(self) -> list[EnrolledCrawler]:
        """Return all credentials by name, also those that are revoked."""
        columns = (
            CrawlerCredential.name,
            CrawlerCredential.id,
            CrawlerCredential.capacity,
            CrawlerCredential.created_at,
            CrawlerCredential.last_used_at,
            CrawlerCredential.rotated_at,
            CrawlerCredential.former_valid_until,
            CrawlerCredential.revoked_at,
        )
        rows = self._session.execute(select(*columns).order_by(CrawlerCredential.name))
        return [EnrolledCrawler(*row) for row in rows]
