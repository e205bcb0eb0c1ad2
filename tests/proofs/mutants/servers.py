"""A PostgreSQL and a Valkey for each concurrent trial, shared, since starting them takes longer than most trials."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "CRAWLYARD_TEST_SERVERS"
"""Names them to the project's tests: see tests/support/servers.py."""

# They end with their input, so also with this process, which itself imports nothing of the product.
_SERVE = """
import json, sys
from console.embedded.servers import embedded_services

with embedded_services({"fsync": "off"}) as servers:
    print(json.dumps({"database_url": servers.database_url, "broker_url": servers.broker_url}), flush=True)
    sys.stdin.read()
"""


@contextmanager
def serving(root: Path, pairs: int) -> Iterator[list[dict[str, str]]]:
    """Run pairs of servers; yield the environment of a trial for each of them."""
    command = [sys.executable, "-c", _SERVE]
    processes = [
        subprocess.Popen(
            command,
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for _ in range(pairs)
    ]
    try:
        yield [{VARIABLE: _read_line(process)} for process in processes]
    finally:
        for process in processes:
            process.communicate()


def _read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if not (line := process.stdout.readline().strip()):
        raise RuntimeError("the servers of the tests could not be started")
    return line
