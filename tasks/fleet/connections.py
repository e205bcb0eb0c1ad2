"""Connections: a crawler registers, beats, says goodbye. Only the sweep closes one."""

from collections.abc import Collection

import structlog
from pydantic import TypeAdapter

from persistence.fleet.connections import Beat
from persistence.sanitize.text import redact_text
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Disconnect, Heartbeat, Register, SaidBeat
from tasks.fleet.batch import Speech
from tasks.runtime.batches import reject, valid_items
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

log = structlog.get_logger()

_BEAT = TypeAdapter(SaidBeat)


@task(name="connections.register", accepts=Register)
def register(payload: Register) -> None:
    """Open a connection under the id that the caller chose."""
    with unit_of_work() as uow:
        if uow.handled.claim(message_id()):
            register_connection(uow, payload)
        uow.commit()


@task(name="connections.heartbeat", accepts=Heartbeat)
def heartbeat(payload: Heartbeat) -> None:
    """
    Note that connections live.

    To beat twice is harmless: a message is claimed only where it leaves an event or a rejection.
    """
    with unit_of_work() as uow:
        speech = Speech()
        for _, said in valid_items(uow, payload.beats, _BEAT):
            speech.beat(said.connection_id, said.system_status, said.active_jobs, said.capacity)
        live = note_life(uow, speech.beats.values())
        is_plain = not uow.rejected.mark() and live == speech.beats.keys()
        if is_plain or uow.handled.claim(message_id()):
            uow.commit()


@task(name="connections.disconnect", accepts=Disconnect)
def disconnect(payload: Disconnect) -> None:
    """Note a goodbye; what the connection holds goes back with the next sweep, behind its last words."""
    with unit_of_work() as uow:
        is_news = uow.connections.say_goodbye(ConnectionId(payload.connection_id))
        uow.commit()
    if is_news:
        log.info("goodbye", connection_id=payload.connection_id, reason=payload.reason)


def register_connection(uow: UnitOfWork, wish: Register) -> None:
    """Open a connection; live already: proof of life; closed: it is rejected, since an id serves once."""
    connection_id = ConnectionId(wish.connection_id)
    crawler_id = wish.crawler_id and redact_text(wish.crawler_id)
    outcome = uow.connections.register(connection_id, crawler_id, wish.capacity, wish.metadata)
    if outcome == "registered":
        uow.events.add(EventType.CONNECTION_REGISTERED, connection_id=connection_id, crawler_id=crawler_id)
        uow.ring("jobs.assign")
    elif outcome == "closed":
        uow.events.add(EventType.CONNECTION_EXPIRED, connection_id=connection_id, known=True)
        reject(uow, wish.model_dump(mode="json"), "connection_closed", "register under a new connection_id")


def note_life(uow: UnitOfWork, beats: Collection[Beat]) -> set[ConnectionId]:
    """
    Prove the life of connections, one beat each, and lock them; returns those that are active.

    Of one that is closed or unknown nothing changes, and an event tells it to register anew: under
    a new id where it was closed (`known`), under the same one where its registration was lost.
    """
    live = uow.connections.beat(beats)
    others = {beat.connection_id for beat in beats} - live
    closed = uow.connections.which_closed(others) if others else set()
    for connection_id in sorted(others):
        uow.events.add(
            EventType.CONNECTION_EXPIRED, connection_id=connection_id, known=connection_id in closed
        )
    return live
