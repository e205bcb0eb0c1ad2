"""
The model's time: it passes in ticks, by ageing the rows, and stands still between them.

Every duration of the product lies halfway between two ticks, so that what a slow machine adds of its own,
minutes in the worst case, never decides anything.
"""

TICK_S = 330.0

TIMEOUT = 2.5
INTERVAL = 1.0
ABSENCE = 1.5
STALL = 4.5
START = 3.5
KEEP_JOBS = 10.5
REDISCOVERY = 3.5

OUTAGE = TIMEOUT - 2 * INTERVAL
"""So long between two sweeps, and it was we who were gone."""

RETRY_S = 120.0
LONGEST_RETRY_S = 900.0

STEP = 1e-6
"""Between two steps within one tick: what came before is before."""

SETTINGS = {
    "CRAWLYARD_CONNECTION_TIMEOUT": TIMEOUT * TICK_S,
    "CRAWLYARD_HEARTBEAT_INTERVAL": INTERVAL * TICK_S,
    "CRAWLYARD_SWEEP_INTERVAL": TICK_S / 5,
    "CRAWLYARD_ABSENCE_GRACE": ABSENCE * TICK_S,
    "CRAWLYARD_STALL_TIMEOUT": STALL * TICK_S,
    "CRAWLYARD_START_TIMEOUT": START * TICK_S,
    "CRAWLYARD_RETRY_DELAY": RETRY_S,
    "CRAWLYARD_KEEP_JOBS": KEEP_JOBS * TICK_S,
    "CRAWLYARD_REDISCOVERY_INTERVAL": REDISCOVERY * TICK_S,
}


def backoff(times: int) -> tuple[float, float]:
    """The least and the most ticks to wait after the *times*-th failure: doubled each time, with jitter."""
    doubled = RETRY_S * 2 ** (times - 1)
    least, most = (min(doubled * jitter, LONGEST_RETRY_S) for jitter in (1, 1.25))
    return least / TICK_S, most / TICK_S
