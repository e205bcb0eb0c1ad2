"""
Runs one simulated crawler until Ctrl-C, for trying a web app without a real crawler.

    DATABASE_URL=… BROKER_URL=… .venv/bin/python examples/one_crawler.py
"""

import os
import time
from contextlib import closing, suppress

from console.simulator.fleet import Fleet, FleetOptions
from tasks.client import Producer


def main() -> None:
    """Work on all orders; most of them succeed."""
    options = FleetOptions(crawlers=1, seed=1, heartbeat_seconds=10)
    with (
        closing(Producer(os.environ["BROKER_URL"])) as producer,
        Fleet(options, producer, os.environ["DATABASE_URL"]) as fleet,
        suppress(KeyboardInterrupt),
    ):
        while True:
            time.sleep(1)
            fleet.check()


if __name__ == "__main__":
    main()
