"""The size of the fleet, and settings of Crawlyard in proportion: about a tenth of the usual ones."""

import random

from console.simulator.projects import GroupTree, pick_group_tree

CRAWLERS_PROCESS = "crawlers"
GATEWAYS = ("gateway-1", CRAWLERS_PROCESS)
"""Processes with crawlers: behind a gateway as a user might write it, which is in the same process and confuses its
messages; and behind Crawlyard's own gateways."""
SESSIONS = "crawlers.sessions"
"""The file in which crawlers keep their sessions."""
DOORS = ("east", "west")
"""Crawlyard's own gateways."""
CRAWLERS = 6
"""Of each process. Together they are more than ten, from which on mass silence is recognized."""
CAPACITY = 3
WORK_S = 4.0
"""Seconds of work of an average job."""
PAGES = 2
HEARTBEAT_S = 1.0
FLUSH_S = 0.5
"""How long a gateway collects frames: few large messages, since the run tests faults, not speed."""
TIMEOUT_S = 6.0
LONGEST_RETRY_S = TIMEOUT_S / 3
"""As a crawler's half a minute is a third of the usual timeout."""
OUTAGE_GAP_S = TIMEOUT_S - 2 * HEARTBEAT_S
DISCOVERED_JOBS = 60

SETTINGS = {
    "CRAWLYARD_HEARTBEAT_INTERVAL": str(HEARTBEAT_S),
    "CRAWLYARD_CONNECTION_TIMEOUT": str(TIMEOUT_S),
    "CRAWLYARD_RESUME_WINDOW": "3",
    "CRAWLYARD_SWEEP_INTERVAL": "1",
    "CRAWLYARD_ASSIGN_INTERVAL": "1",
    "CRAWLYARD_RECONCILE_INTERVAL": "2",
    "CRAWLYARD_CLEAN_UP_INTERVAL": "10",
    "CRAWLYARD_RETRY_DELAY": "0.5",
    "CRAWLYARD_ABSENCE_GRACE": "6",
    "CRAWLYARD_START_TIMEOUT": "15",
    "CRAWLYARD_STALL_TIMEOUT": "30",
    "CRAWLYARD_DATABASE_WAIT": "6",
    "CRAWLYARD_STATEMENT_TIMEOUT": "10",
}


def group_tree_of(seed: int) -> GroupTree:
    """Return what the one discovery of a run finds; it follows from the seed."""
    return pick_group_tree(random.Random(f"{seed} estate"), DISCOVERED_JOBS)
