"""
Links of crawlers, `connections.attach` and `connections.lost`: what a gateway says when one begins or ends.

Whichever order the messages of two gateways come in, the connection is left with its newest link.
"""

import structlog
from pydantic import TypeAdapter

from persistence.fleet.links import Link
from persistence.sanitize.text import redact_text
from persistence.schema.event_types import EventType
from persistence.schema.ids import ConnectionId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Attach, Lost, SaidLink
from tasks.fleet.connections import refuse, tell_limit
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work
from tasks.sanitize.refused import RefusedItems

log = structlog.get_logger()

_LINK = TypeAdapter(SaidLink)


@task(name="connections.attach", accepts=Attach)
def attach(payload: Attach) -> None:
    """Let connections be reached over new links; a connection that is not there yet is opened."""
    refused = RefusedItems(payload.links)
    links = [_link(said) for _, said in refused.valid(_LINK)]
    refused.apply(lambda uow: attach_links(uow, links))


@task(name="connections.lost", accepts=Lost)
def lost(payload: Lost) -> None:
    """Note that a link has ended without a goodbye. The sweep closes its connection if no other follows soon."""
    with unit_of_work() as uow:
        is_new = uow.links.mark_lost(ConnectionId(payload.connection_id), payload.n, payload.link)
        uow.commit()
    if is_new:
        log.info("link_lost", connection_id=payload.connection_id, n=payload.n)


def attach_links(uow: UnitOfWork, links: list[Link]) -> None:
    """
    Attach links, tell of each that is a connection's newest, and have jobs assigned.

    An event tells a gateway to begin a new session where the connection is closed or somebody else's. A link that is
    older than the connection's, as after a delayed message, changes nothing and is not told of.
    """
    by_connection = {link.connection_id: link for link in sorted(links, key=lambda link: (link.n, link.link))}
    for connection_id in uow.links.beyond_limit(by_connection) if links else ():
        refuse(uow, connection_id, vars(by_connection.pop(connection_id)))
    if not by_connection:
        return
    attached = uow.links.attach(by_connection.values())
    uow.crawler_credentials.note_use({link.credential_id for link in links if link.credential_id})
    for connection_id, is_new in attached.items():
        link = by_connection[connection_id]
        if is_new:
            uow.events.add(
                EventType.CONNECTION_REGISTERED, connection_id=connection_id, crawler_id=link.crawler_id
            )
        uow.events.add(EventType.CONNECTION_ATTACHED, connection_id=connection_id, n=link.n, link=link.link)
        tell_limit(uow, connection_id, link.capacity)
    unchanged = {id_: link for id_, link in by_connection.items() if id_ not in attached}
    for connection_id in sorted(uow.links.not_resumable(unchanged)) if unchanged else ():
        uow.events.add(EventType.CONNECTION_EXPIRED, connection_id=connection_id, known=True)
    if attached:
        uow.publish("jobs.assign")


def _link(said: SaidLink) -> Link:
    return Link(
        ConnectionId(said.connection_id),
        said.crawler_id and redact_text(said.crawler_id),
        said.n,
        said.link,
        said.gateway,
        said.capacity,
        said.session_hash,
        said.credential_id,
    )
