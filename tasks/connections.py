"""Connections: a crawler registers, beats, says goodbye. Only the sweep closes one."""

from collections.abc import Collection, Iterable

import structlog
from pydantic import TypeAdapter

from persistence.connections import Beat as StoredBeat
from persistence.schema.vocabulary import ConnectionId, EventType
from persistence.unit_of_work import UnitOfWork
from tasks.app import app
from tasks.base import message_id, reject, unit_of_work, valid_items
from tasks.messages import Beat, Disconnect, Heartbeat, Register
from tasks.speech import beat

log = structlog.get_logger()

_BEAT = TypeAdapter(Beat)


@app.task(name="connections.register", accepts=Register)
def register(payload: Register) -> None:
    """Open a connection under the id that the caller chose."""
    with unit_of_work() as uow:
        if uow.handled.claim(message_id()):
            register_connection(uow, payload)
        uow.commit()


@app.task(name="connections.heartbeat", accepts=Heartbeat)
def heartbeat(payload: Heartbeat) -> None:
    """
    Note that connections live.

    To beat twice is harmless, so that a message is claimed only where it leaves more than that.
    """
    with unit_of_work() as uow:
        beats = [
            beat(ConnectionId(b.connection_id), b.system_status, b.active_jobs, b.capacity)
            for _, b in valid_items(uow, payload.beats, _BEAT)
        ]
        live = note_life(uow, beats)
        is_plain = len(beats) == len(payload.beats) and live.issuperset(b.connection_id for b in beats)
        if is_plain or uow.handled.claim(message_id()):
            uow.commit()


@app.task(name="connections.disconnect", accepts=Disconnect)
def disconnect(payload: Disconnect) -> None:
    """Note a goodbye; what the connection holds goes back with the next sweep, behind its last words."""
    with unit_of_work() as uow:
        is_news = uow.connections.say_goodbye(ConnectionId(payload.connection_id))
        uow.commit()
    if is_news:
        log.info("goodbye", connection_id=payload.connection_id, reason=payload.reason)


def register_connection(uow: UnitOfWork, wish: Register) -> None:
    """Open a connection; live already: nothing; closed: it is rejected, since an id serves once."""
    connection_id = ConnectionId(wish.connection_id)
    outcome = uow.connections.register(connection_id, wish.crawler_id, wish.capacity, wish.metadata)
    if outcome == "registered":
        uow.events.add(
            EventType.CONNECTION_REGISTERED, connection_id=connection_id, crawler_id=wish.crawler_id
        )
        uow.ring("jobs.assign")
    elif outcome == "closed":
        uow.events.add(EventType.CONNECTION_EXPIRED, connection_id=connection_id, known=True)
        reject(uow, wish.model_dump(mode="json"), "connection_closed", "register under a new connection_id")


def note_life(uow: UnitOfWork, beats: Collection[StoredBeat]) -> set[ConnectionId]:
    """
    Prove the life of connections and lock them; returns those that are active.

    Of one that is closed or unknown nothing changes, and an event tells it to register anew: under
    a new id where it was closed (`known`), under the same one where its registration was lost.
    """
    live = uow.connections.beat(_last_of_each(beats))
    others = {beat.connection_id for beat in beats} - live
    closed = uow.connections.which_closed(others) if others else set()
    for connection_id in sorted(others):
        uow.events.add(
            EventType.CONNECTION_EXPIRED, connection_id=connection_id, known=connection_id in closed
        )
    return live


def _last_of_each(beats: Iterable[StoredBeat]) -> list[StoredBeat]:
    """One beat a connection, which says the last that was said of each thing."""
    merged: dict[ConnectionId, StoredBeat] = {}
    for said in beats:
        known = {k: v for k, v in vars(said).items() if v is not None}
        before = vars(merged[said.connection_id]) if said.connection_id in merged else {}
        merged[said.connection_id] = StoredBeat(**{**before, **known})
    return list(merged.values())
