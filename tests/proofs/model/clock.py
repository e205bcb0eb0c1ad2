"""
The model's time: it advances in ticks, by ageing the rows, and stands still between them.

Every duration of the product lies halfway between two ticks. What a slow machine adds, minutes in the worst
case, therefore never decides anything.
"""

TICK_S = 330.0

TIMEOUT = 2.5
INTERVAL = 1.0
GOODBYE_MARGIN = 0.5
"""The contract has 2 s: the only duration that is no setting, and is replaced in the product."""
RESUME_WINDOW = 0.5
ABSENCE = 1.5
STALL = 4.5
START = 3.5
AGE = 5.5
KEEP_JOBS = 10.5
REDISCOVERY = 3.5

OUTAGE = TIMEOUT - 2 * INTERVAL
"""A longer gap between two sweeps is an outage of Crawlyard ("connections.expire_dead")."""

RETRY_S = 120.0
LONGEST_RETRY_S = 900.0

STEP = 1e-6
"""Between two steps within one tick, so that they have an order."""

SETTINGS = {
    "CRAWLYARD_CONNECTION_TIMEOUT": TIMEOUT * TICK_S,
    "CRAWLYARD_HEARTBEAT_INTERVAL": INTERVAL * TICK_S,
    "CRAWLYARD_SWEEP_INTERVAL": TICK_S / 5,
    "CRAWLYARD_RESUME_WINDOW": RESUME_WINDOW * TICK_S,
    "CRAWLYARD_ABSENCE_GRACE": ABSENCE * TICK_S,
    "CRAWLYARD_STALL_TIMEOUT": STALL * TICK_S,
    "CRAWLYARD_MAX_ATTEMPT_AGE": AGE * TICK_S,
    "CRAWLYARD_START_TIMEOUT": START * TICK_S,
    "CRAWLYARD_RETRY_DELAY": RETRY_S,
    "CRAWLYARD_KEEP_JOBS": KEEP_JOBS * TICK_S,
    "CRAWLYARD_REDISCOVERY_INTERVAL": REDISCOVERY * TICK_S,
}


def backoff(failures: int) -> tuple[float, float]:
    """
    Return the least and the most ticks to wait after a failure.

    Frames: "after CRAWLYARD_RETRY_DELAY, doubled with each failure, plus up to a quarter, 15 minutes at most".
    """
    doubled = RETRY_S * 2 ** (failures - 1)
    least, most = (min(doubled * jitter, LONGEST_RETRY_S) for jitter in (1, 1.25))
    return least / TICK_S, most / TICK_S
