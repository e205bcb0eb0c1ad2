"""A worker that freezes within a transaction, as on a paused machine, blocks the others only briefly."""

import pytest

from persistence.exceptions import DatabaseLost
from persistence.schema.ids import ConnectionId
from persistence.settings import settings
from support.worlds.world import World


def test_the_locks_of_a_frozen_worker_are_released_before_any_connection_expires(world: World) -> None:
    """
    Heartbeats that share a message with a locked connection's are recorded in time, and sweeps continue.

    The locks are released within the gap between sweeps that needs no grace period. The frozen unit has changed
    nothing; when the worker wakes, it is run again as after a lost database.
    """
    frozen, frozen_orders = world.crawler_with_jobs()
    other, other_orders = world.crawler_with_jobs()
    dead, _ = world.crawler_with_jobs()
    for crawler in (frozen, other):
        crawler.silent_for(8)
    dead.silent_for(60)
    world.rows("UPDATE liveness_state SET last_sweep_at = clock_timestamp()")
    began = world.now()

    with pytest.raises(DatabaseLost), world.unit() as uow:
        uow.sweep_state.lock()
        uow.connections.lock([ConnectionId(frozen.id)])
        uow.connections.mark_disconnected(ConnectionId(frozen.id))
        world.deliver(
            "connections.heartbeat", beats=[{"connection_id": crawler.id} for crawler in (frozen, other)]
        )
        world.deliver("connections.expire_dead", as_of=began.isoformat())
        waited = world.now() - began
        uow.commit()

    assert waited < settings().outage_gap + settings().sweep_interval * 2
    assert (frozen.orders(), other.orders(), dead.orders()) == (frozen_orders, other_orders, [])
    assert frozen.row().last_heartbeat > began
    assert frozen.row().goodbye_at is None
    assert other.row().last_heartbeat > began
