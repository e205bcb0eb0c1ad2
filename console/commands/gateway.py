"""Runs a gateway in this process."""

from gateway import logs, process


def start_gateway(*, loglevel: str) -> None:
    """Run a gateway until a signal stops it."""
    logs.install(loglevel)
    process.run()
