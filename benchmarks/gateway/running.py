"""Runs gateways and a crowd of crawlers, and watches both."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Thread
from typing import Any
from uuid import uuid4

import psutil
import trustme

from benchmarks.gateway import crawlers
from benchmarks.harness.bed import PATIENCE_S, Bed, wait_until
from persistence.sanitize.crawler_secret import hash_of, new_secret
from persistence.unit_of_work import unit_of_work

_ROOT = Path(__file__).parents[2]
_WRAPPER = _ROOT / "console" / "demo" / "tied_process.py"
_GRACE_S = 5
_GONE_S = 60

BOUNDS = {"CRAWLYARD_GATEWAY_MAX_LINKS_PER_PEER": "1000000", "CRAWLYARD_GATEWAY_MAX_FRAME_RATE": "1000000"}
"""All crawlers come from one address here, and few stand for many."""


class Gateway:
    """One process of `crawlyard gateway`, which ends with this one, however that ends."""

    def __init__(self, bed: Bed, name: str, address: str, **environment: str) -> None:
        self.address = address
        own = {"CRAWLYARD_GATEWAY_LISTEN": address, "CRAWLYARD_GATEWAY_NAME": name, "PYTHONPATH": str(_ROOT)}
        self._environment = os.environ | bed.environment() | BOUNDS | own | environment
        self._log = Path(bed.services.folder) / f"{name}.log"
        self.start()

    def start(self) -> None:
        """Start it, for the first time or after its end, and do not wait."""
        command = [sys.executable, "-P", "-m", "console.main", "gateway", "--loglevel", "WARNING"]
        with self._log.open("ab") as log:
            self._wrapper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WRAPPER), str(_GRACE_S), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def until_listening(self) -> None:
        """Wait until links are taken. Raises TimeoutError."""
        wait_until(self._is_listening, f"{self.address} is listened at: {self._log}")
        (self._process,) = psutil.Process(self._wrapper.pid).children()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._wrapper.send_signal(signal.SIGUSR1)
        self.until_gone()

    def drain(self) -> None:
        """End it with SIGTERM, and wait until it is gone."""
        self._wrapper.terminate()
        self.until_gone()

    def until_gone(self) -> None:
        """Wait until it has ended."""
        self._wrapper.wait(_GONE_S)
        assert self._wrapper.stdin
        self._wrapper.stdin.close()

    @property
    def is_running(self) -> bool:
        """True if it has not ended."""
        return self._wrapper.poll() is None

    @property
    def cpu_seconds(self) -> float:
        """The CPU time that it has used."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @property
    def kibibytes(self) -> float:
        """Its resident memory."""
        return float(self._process.memory_info().rss) / 1024

    def _is_listening(self) -> bool:
        port = int(self.address.rsplit(":", 1)[1])
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def gateways(bed: Bed, *addresses: str, **environment: str) -> Iterator[list[Gateway]]:
    """Run a gateway at each address, and end them."""
    made = [
        Gateway(bed, f"gateway-{number}", address, **environment) for number, address in enumerate(addresses)
    ]
    try:
        for gateway in made:
            gateway.until_listening()
        yield made
    finally:
        for gateway in made:
            if gateway.is_running:
                gateway.kill()


class Fleet:
    """The process of the crawlers, which ends with its input, so with this process."""

    def __init__(self, bed: Bed, addresses: list[str], count: int, capacity: int, **more: Any) -> None:
        self.count = count
        self.counts: dict[str, int] = {}
        """What it has counted at its last tick, and at what time."""
        self.at = 0.0
        self.welcome_at: dict[int, float] = {}
        """When each crawler had been welcome so many times."""
        self.orders: dict[str, float] = {}
        """When the orders of probes came."""
        self.changed = Condition()
        crowd = {"addresses": addresses, "count": count, "capacity": capacity, **more}
        self._process = subprocess.Popen(
            [sys.executable, "-m", crawlers.__name__],
            cwd=_ROOT,
            env=os.environ | bed.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(json.dumps(crowd))

    def send(self, line: str) -> None:
        """Send it one line."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def until_welcome(self, times: int = 1, patience: float = PATIENCE_S) -> float:
        """Wait until each crawler has been welcome so many times; returns since when. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(lambda: times in self.welcome_at, patience):
                raise TimeoutError(f"not all {self.count} crawlers are welcome: {self.counts}")
            return self.welcome_at[times]

    def until_ordered(self, job: str, patience: float = PATIENCE_S) -> float:
        """Wait until the order of a probe has come; returns when. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(lambda: job in self.orders, patience):
                raise TimeoutError(f"no crawler got an order of {job}")
            return self.orders[job]

    def tick(self) -> tuple[float, dict[str, int]]:
        """Wait for the next tick; returns its time and what was counted until then."""
        with self.changed:
            last = self.at
            self.changed.wait_for(lambda: self.at > last, PATIENCE_S)
            return self.at, self.counts

    def end(self) -> None:
        """End it, which cuts all links."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            said = json.loads(line)
            with self.changed:
                match said["what"]:
                    case "all":
                        self.welcome_at[said["times"]] = said["at"]
                    case "order":
                        self.orders[said["of"]] = said["at"]
                    case "tick":
                        self.counts, self.at = said["counts"], said["at"]
                self.changed.notify_all()


@contextmanager
def fleet(bed: Bed, addresses: list[str], count: int, capacity: int, **more: Any) -> Iterator[Fleet]:
    """Run a fleet with a secret of its own; each crawler has been welcome when this returns."""
    secret = new_secret()
    with unit_of_work(lambda _task, _payload: None) as uow:
        uow.crawler_credentials.enroll(f"fleet-{uuid4().hex}", hash_of(secret), None)
        uow.commit()
    made = Fleet(bed, addresses, count, capacity, secret=secret, **more)
    try:
        made.until_welcome()
        yield made
    finally:
        made.end()


def free_address(scheme: str = "tcp") -> str:
    """Return an address of this machine at which nobody listens."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return f"{scheme}://127.0.0.1:{tried.getsockname()[1]}"


def certificate(folder: Path) -> tuple[dict[str, str], str]:
    """Make a certificate for 127.0.0.1; returns the gateway's settings, and the file of its authority."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {"CERTIFICATE": folder / "gateway.pem", "KEY": folder / "gateway.key"}
    issued.private_key_pem.write_to_path(files["KEY"])
    files["KEY"].chmod(0o600)
    files["CERTIFICATE"].write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "authority.pem")
    settings = {f"CRAWLYARD_GATEWAY_{name}": str(file) for name, file in files.items()}
    return settings, str(folder / "authority.pem")
