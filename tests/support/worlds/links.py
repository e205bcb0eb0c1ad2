"""Links of crawlers, as a gateway reports them."""

from typing import Any

from support.worlds.world import World

SESSION, OTHER_SESSION = "5e" * 32, "0f" * 32


def link(connection_id: str, n: int, **changes: Any) -> dict[str, Any]:
    """A link as a gateway reports it."""
    return {
        "connection_id": connection_id,
        "crawler_id": "one",
        "n": n,
        "link": f"link-{n}",
        "gateway": "east",
        "session_hash": SESSION,
        "credential_id": "credential",
    } | changes


def attach(world: World, *links: dict[str, Any], message: str | None = None) -> None:
    """Report links in one message."""
    world.deliver("connections.attach", message, links=list(links))


def lose(world: World, id_: str, n: int, name: str | None = None) -> None:
    """Report that a link was lost."""
    world.deliver("connections.lost", connection_id=id_, n=n, link=name or f"link-{n}")


def row(world: World, id_: str) -> Any:
    """The connection's row."""
    return world.row("SELECT * FROM socket_connection WHERE id = :id", id=id_)
