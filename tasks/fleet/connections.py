"""Connections: a crawler registers, sends heartbeats and disconnects. Only the sweep closes a connection."""

from collections.abc import Collection
from typing import NamedTuple

import structlog
from pydantic import TypeAdapter

from persistence.fleet.connections import Beat
from persistence.sanitize.json_values import STORED_BYTES
from persistence.sanitize.text import RedactedText, redact_text
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import in_utc
from tasks.contract.payloads import Disconnect, Heartbeat, Register, SaidBeat
from tasks.fleet.batch import FrameBatch
from tasks.runtime.batches import reject
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work
from tasks.sanitize.refused import RefusedItems
from tasks.sanitize.texts import redacted_json

log = structlog.get_logger()

_BEAT = TypeAdapter(SaidBeat)

_TOO_MANY = "too_many_connections"


@task(name="connections.register", accepts=Register)
def register(payload: Register) -> None:
    """Open a connection under the id that the caller chose."""
    registration = redact_registration(payload)
    with unit_of_work() as uow:
        if uow.processed.mark_processed(message_id()):
            register_connection(uow, registration)
        uow.commit()


@task(name="connections.heartbeat", accepts=Heartbeat)
def heartbeat(payload: Heartbeat) -> None:
    """
    Record that connections are alive.

    That alone may be delivered twice, so the message is marked as processed only if it brings a capacity or a list of
    jobs, which would replace a later one, or if it leaves an event or a rejection.
    """
    refused, batch = RefusedItems(payload.beats), FrameBatch()
    for _, received in refused.valid(_BEAT):
        batch.add_heartbeat(
            received.connection_id,
            received.system_status,
            received.active_jobs,
            received.capacity,
            in_utc(received.timestamp),
        )
    if refused.any or any(beat.replaces_earlier for beat in batch.beats.values()):
        refused.apply(lambda uow: _apply_beats(uow, batch))
        return
    with unit_of_work() as uow:
        _apply_beats(uow, batch)
        if not uow.events.mark() or uow.processed.mark_processed(message_id()):
            uow.commit()


def _apply_beats(uow: UnitOfWork, batch: FrameBatch) -> None:
    if apply_heartbeats(uow, batch.beats.values()).growing:
        uow.publish("jobs.assign")


@task(name="connections.disconnect", accepts=Disconnect)
def disconnect(payload: Disconnect) -> None:
    """Mark a connection as disconnected. The next sweep requeues its jobs, after the frames that came before."""
    with unit_of_work() as uow:
        is_new = uow.connections.mark_disconnected(ConnectionId(payload.connection_id))
        uow.commit()
    if is_new:
        log.info("goodbye", connection_id=payload.connection_id, reason=payload.reason)


def redact_registration(registration: Register) -> Register:
    """The registration with its texts redacted, before a transaction begins."""
    crawler_id, metadata = registration.crawler_id, registration.metadata
    return registration.model_copy(
        update={
            "crawler_id": crawler_id and RedactedText(redact_text(crawler_id)),
            "metadata": None if metadata is None else redacted_json(metadata, STORED_BYTES),
        }
    )


def register_connection(uow: UnitOfWork, registration: Register) -> None:
    """
    Open a connection.

    If it is open already, this proves that it is alive. If it is closed, the registration is rejected: each
    connection id serves once.
    """
    connection_id, crawler_id = ConnectionId(registration.connection_id), registration.crawler_id
    outcome = uow.connections.register(
        connection_id, crawler_id, registration.capacity, registration.metadata
    )
    if outcome == "registered":
        uow.events.add(EventType.CONNECTION_REGISTERED, connection_id=connection_id, crawler_id=crawler_id)
        tell_limit(uow, connection_id, registration.capacity)
        uow.publish("jobs.assign")
    elif outcome == "refused":
        refuse(uow, connection_id, registration.model_dump(mode="json"))
    elif outcome == "closed":
        uow.events.add(EventType.CONNECTION_EXPIRED, connection_id=connection_id, known=True)
        reject(
            uow,
            registration.model_dump(mode="json"),
            "connection_closed",
            "register under a new connection_id",
        )


def refuse(uow: UnitOfWork, connection_id: ConnectionId, said: object) -> None:
    """Reject what would open a connection too many, and tell its gateway. None that is open is closed for it."""
    limit = settings().max_connections
    detail = f"{limit:,} connections are open"
    reject(uow, said, _TOO_MANY, detail)
    uow.events.add(
        EventType.CONNECTION_REFUSED,
        connection_id=connection_id,
        reason=_TOO_MANY,
        limit=limit,
    )
    uow.statistics.add_refused({"socket_connection": 1})


class AppliedBeats(NamedTuple):
    """The connections that heartbeats have found active, which are locked."""

    live: set[ConnectionId]
    growing: set[ConnectionId]
    """Those that may work on more jobs than before."""


def apply_heartbeats(uow: UnitOfWork, beats: Collection[Beat]) -> AppliedBeats:
    """
    Record that connections are alive, one beat each, and lock them.

    Nothing changes on a connection that is closed or unknown. An event tells its gateway to register again: under a
    new id if it was closed (`known`), under the same id if its registration was lost.
    """
    before = uow.connections.record_heartbeats(beats)
    growing = set()
    for beat in beats:
        if beat.capacity is not None and (known := before.get(beat.connection_id)):
            if known.asked != beat.capacity:
                tell_limit(uow, beat.connection_id, beat.capacity)
            if min(beat.capacity, settings().max_capacity) > known.capacity:
                growing.add(beat.connection_id)
    live = set(before)
    others = {beat.connection_id for beat in beats} - live
    closed = uow.connections.closed_among(others) if others else set()
    for connection_id in sorted(others):
        uow.events.add(
            EventType.CONNECTION_EXPIRED, connection_id=connection_id, known=connection_id in closed
        )
    return AppliedBeats(live, growing)


def tell_limit(uow: UnitOfWork, connection_id: ConnectionId, asked: int) -> None:
    """Tell a gateway that its crawler gets fewer jobs at once than it asked for."""
    if asked > (limit := settings().max_capacity):
        uow.events.add(EventType.CAPACITY_LIMITED, connection_id=connection_id, asked=asked, capacity=limit)
