"""A worker that freezes within a transaction, as on a paused machine, holds the others up for a moment only."""

import pytest

from persistence.exceptions import DatabaseLost
from persistence.schema.ids import ConnectionId
from persistence.settings import settings
from support.worlds.world import World


def test_the_locks_of_a_frozen_worker_are_released_before_any_connection_expires(world: World) -> None:
    """
    Beats that share a message with the beat of a locked connection are heard in time, and sweeps go on.

    In time: after as long as sweeps may be away without a grace. What the frozen worker does when it wakes
    is run again as after a lost database, and has changed nothing.
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
