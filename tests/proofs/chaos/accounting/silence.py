"""
Who was wrongly declared dead.

A gateway knows which of its words the broker took. A connection may be closed if its gateway was not
able to get a word through for longer than the gap that counts as an outage of ours (the timeout less
two intervals): frozen, dead, cut off. One whose words kept coming was taken wrongly, whatever became of
them: lost with a FLUSHALL, in the hands of a worker that was killed, or waiting in a queue.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from proofs.chaos.accounting.evidence import Connection
from proofs.chaos.scale import OUTAGE_GAP_S


def wrongly_expired(connections: Iterable[Connection], accepted: Mapping[str, Sequence[float]]) -> set[str]:
    """The connections that were closed, without a goodbye, although their gateway got words through."""
    return {
        c.id
        for c in connections
        if c.closed is not None
        and not c.disconnected
        and not _was_silent(c.last_seen, c.closed, accepted.get(c.id, ()))
    }


def _was_silent(begun: float, closed: float, accepted: Iterable[float]) -> bool:
    """Whether there was a gap between the last word that was counted and the end of the connection."""
    moments = [begun, *sorted(moment for moment in accepted if begun < moment < closed), closed]
    return max(b - a for a, b in pairwise(moments)) > OUTAGE_GAP_S
