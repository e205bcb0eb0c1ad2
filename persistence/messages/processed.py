"""Messages that were handled: delivered again, they change nothing."""

from sqlalchemy import text
from sqlalchemy.orm import Session

_MARK_PROCESSED = text("""
    INSERT INTO handled_message (message_id) VALUES (:message_id)
    ON CONFLICT DO NOTHING RETURNING message_id
""")


_WAS_PROCESSED = text("SELECT EXISTS (SELECT FROM handled_message WHERE message_id = :message_id)")


class ProcessedMessages:
    """The ids of the messages whose unit of work committed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def mark_processed(self, message_id: str) -> bool:
        """
        Whether this unit is the first to handle *message_id*; False: end, it was handled.

        Waits for another unit that is handling it right now.
        """
        return self._session.execute(_MARK_PROCESSED, {"message_id": message_id}).one_or_none() is not None

    def was_processed(self, message_id: str) -> bool:
        """Whether a unit handled *message_id* to its end; for a message of many units, whose last one claims."""
        return bool(self._session.scalars(_WAS_PROCESSED, {"message_id": message_id}).one())
