"""`crawlyard beat` with a liveness bound of seconds, for tests that wait until it is exceeded."""

from datetime import timedelta

from console.commands.worker import start_beat
from tasks.worker import liveness

liveness._MIN_BOUND = timedelta(seconds=2)

if __name__ == "__main__":
    start_beat(loglevel="info")
