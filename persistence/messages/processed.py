"""The ids of processed messages: a message that is delivered again changes nothing."""

from sqlalchemy import BindParameter, bindparam, exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from persistence.schema.tables import ProcessedMessage

_MESSAGE_ID: BindParameter[str] = bindparam("message_id")

_MARK_PROCESSED = (
    insert(ProcessedMessage)
    .values(message_id=_MESSAGE_ID)
    .on_conflict_do_nothing()
    .returning(ProcessedMessage.message_id)
)

_WAS_PROCESSED = select(exists().where(ProcessedMessage.message_id == _MESSAGE_ID))


class ProcessedMessages:
    """The table `handled_message`: messages whose unit of work committed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def mark_processed(self, message_id: str) -> bool:
        """
        True if this unit is the first to process *message_id*; if False, the unit must change nothing.

        Waits for another unit that is processing the same message.
        """
        return self._session.scalars(_MARK_PROCESSED, {"message_id": message_id}).one_or_none() is not None

    def was_processed(self, message_id: str) -> bool:
        """True if *message_id* was processed completely. A message of many units is marked by its last one."""
        return bool(self._session.scalars(_WAS_PROCESSED, {"message_id": message_id}).one())
