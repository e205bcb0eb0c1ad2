"""Runs a gateway in this process."""

from gateway import process
from tasks.start import logs


def start_gateway(*, loglevel: str) -> None:
    """Run a gateway until a signal stops it."""
    logs.configure()
    logs.set_up(loglevel)
    process.run()
