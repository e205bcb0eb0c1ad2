"""What a gateway says in protocol 1: each function makes one frame, without a delimiter."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from persistence.orders.hand_over import Order
from persistence.schema.ids import ConnectionId


def welcome(
    connection_id: ConnectionId,
    session: str,
    orders: Iterable[Order],
    heartbeat_interval: float,
    max_frame_bytes: int,
) -> bytes:
    """Say that a crawler is known, by which session it comes back, and what it is to do: nothing else."""
    return _frame(
        "welcome",
        connectionId=connection_id,
        session=session,
        jobs=[_order(order) for order in orders],
        heartbeatInterval=heartbeat_interval,
        maxFrameBytes=max_frame_bytes,
    )


def job_response(orders: Iterable[Order]) -> bytes:
    """Hand over orders, with their tokens: never log it."""
    return _frame("job_response", jobs=[_order(order) for order in orders])


def job_revoked(job_id: str, reason: str) -> bytes:
    """Tell a crawler to stop working on an order."""
    return _frame("job_revoked", job_id=job_id, reason=reason)


def ack(id_: str) -> bytes:
    """Tell a crawler that a frame has been handled."""
    return _frame("ack", id=id_)


def error(code: str, message: str, *, closes: bool, id_: str | None = None, retry_after: float = 0) -> bytes:
    """Tell a crawler what it did wrong, and whether its link is closed; *retry_after* is in seconds."""
    more: dict[str, Any] = {} if id_ is None else {"id": id_}
    if retry_after:
        more["retryAfterSeconds"] = retry_after
    return _frame("error", code=code, message=message, closes=closes, **more)


def shutdown(timeout: float, reconnect_after: float, reason: str) -> bytes:
    """Ask a crawler to leave, and to come back after *reconnect_after* seconds."""
    return _frame(
        "shutdown",
        graceful=True,
        timeoutSeconds=timeout,
        reason=reason,
        reconnectAfterSeconds=reconnect_after,
    )


def ping(nonce: str) -> bytes:
    """Ask a crawler to answer."""
    return _frame("ping", nonce=nonce)


def pong(nonce: str) -> bytes:
    """Answer a crawler's ping."""
    return _frame("pong", nonce=nonce)


def _order(order: Order) -> dict[str, Any]:
    said = {
        "id": order.crawler_job_id,
        "entityType": order.entity_type,
        "entityId": order.entity_id,
        "gitlabUrl": order.gitlab_url,
        "accessToken": order.access_token or "",
    }
    return said if order.resume_state is None else said | {"resumeState": order.resume_state}


def _frame(kind: str, *, job_id: str | None = None, **data: Any) -> bytes:
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    frame: dict[str, Any] = {"type": kind, "timestamp": timestamp}
    if job_id is not None:
        frame["jobId"] = job_id
    frame["data"] = data
    return orjson.dumps(frame)
