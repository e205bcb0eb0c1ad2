"""
Connections that expired wrongly.

A gateway records which of its messages the broker accepted. A connection may expire if its gateway got no
message through for longer than the gap that counts as an outage of Crawlyard (the timeout less two heartbeat
intervals), since it was frozen, dead or cut off. If its messages kept coming, it expired wrongly, whatever
happened to them: lost by a FLUSHALL, taken by a worker that was killed, or waiting in a queue.

Of crawlers behind Crawlyard's gateways it is recorded when their gateway answered them. Their connections expired
wrongly if answers kept coming and nothing was wrong meanwhile between gateways, servers and workers: whatever became of
the gateways themselves, and of their links, is no excuse.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from proofs.chaos.accounting.evidence import Connection
from proofs.chaos.scale import OUTAGE_GAP_S


def wrongly_expired(
    connections: Iterable[Connection],
    accepted: Mapping[str, Sequence[float]],
    answered: Mapping[str, Sequence[float]],
    excused: Sequence[tuple[float, float]],
) -> set[str]:
    """Return the connections that were closed without a disconnect although their messages got through."""
    return {
        c.id
        for c in connections
        if c.closed is not None
        and not c.disconnected
        and not c.lost
        and not _was_silent(c.last_seen, c.closed, accepted.get(c.id, answered.get(c.id, ())))
        and not (c.id in answered and _is_excused(c.last_seen, c.closed, excused))
    }


def _is_excused(begun: float, closed: float, excused: Sequence[tuple[float, float]]) -> bool:
    """Return True if a fault that excuses it was injected then, or shortly before."""
    return any(at < closed and until > begun - OUTAGE_GAP_S for at, until in excused)


def _was_silent(begun: float, closed: float, accepted: Iterable[float]) -> bool:
    """Return True if there was a gap between the last heartbeat that counted and the end of the connection."""
    moments = [begun, *sorted(moment for moment in accepted if begun < moment < closed), closed]
    return max(b - a for a, b in pairwise(moments)) > OUTAGE_GAP_S
