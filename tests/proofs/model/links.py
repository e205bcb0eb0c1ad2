"""The tasks `connections.attach` and `connections.lost`."""

from typing import Any

from proofs.model.model import Message, Model
from proofs.model.reached import Reached
from proofs.model.state import Connection, Link


def attach(model: Model, message: Message, _: Any) -> None:
    """
    Attach links.

    connections.attach: "A connection keeps the link with the greatest `n`, and of one `n` the one with the greater
    `link`, in whatever order the messages come", also within one message. Processed once.
    """
    if not model.mark_processed(message):
        return
    newest: dict[str, tuple[Link, dict[str, Any]]] = {}
    for said in message.payload["links"]:
        link = Link(said["n"], said["link"])
        if said["connection_id"] not in newest or newest[said["connection_id"]][0] < link:
            newest[said["connection_id"]] = link, said
    for id_, (link, said) in newest.items():
        _attach(model, id_, link, said)


def _attach(model: Model, id_: str, link: Link, said: dict[str, Any]) -> None:
    """
    Attach one link.

    "Such a link is a sign of life, brings its capacity, and ends the time that a lost one is waited for". "An older
    link changes nothing. Nor does one whose `session_hash` … is not the connection's, or whose connection is closed,
    has disconnected or was registered: then the event is `connection_expired`".
    """
    connection = model.connections.get(id_)
    if connection is None:
        connection = model.connections[id_] = Connection(id_, said["capacity"], heartbeat_at=model.now)
        connection.session = said["session_hash"]
    is_open = connection.active and connection.disconnected_at is None
    if not is_open or connection.session != said["session_hash"]:
        model.expired += 1
        model.reach(Reached.LINK_REFUSED)
    elif connection.link is not None and link <= connection.link:
        model.reach(Reached.OLDER_LINK, link < connection.link)
    else:
        model.reach(Reached.LINK_RESUMED, connection.lost_at is not None)
        connection.link, connection.gateway = link, said["gateway"]
        connection.capacity, connection.heartbeat_at, connection.lost_at = said["capacity"], model.now, None


def lose(model: Model, message: Message, _: Any) -> None:
    """connections.lost: "If it is the connection's newest", the connection "gets no jobs" until it has another."""
    connection = model.connections.get(message.payload["connection_id"])
    link = Link(message.payload["n"], message.payload["link"])
    if connection and connection.active and connection.lost_at is None:
        if connection.link == link:
            connection.lost_at = model.now
        else:
            model.reach(Reached.OLDER_LINK_LOST)
