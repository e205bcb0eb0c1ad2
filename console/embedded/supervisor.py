"""
Runs servers for another process, and outlives it to stop them and to remove their folder.

A script of the standard library alone, started as `python -I supervisor.py PARENT_PID`: whatever
becomes of the parent (a normal end, Ctrl-C, SIGKILL), the keeper sees the pipe close and cleans
up. It starts the servers itself, so that none can be lost between its start and its being noted.

Its first line on stdout names the folder. Then each line of JSON on stdin gets one back:

    {"id": 1, "do": "start", "name": "redis", "argv": [...], "quit": 15}   -> {"id": 1, "pid": 4711}
    {"id": 2, "do": "poll", "name": "redis"}                               -> {"id": 2, "code": null}
    {"id": 3, "do": "signal", "name": "redis", "signal": 9}                -> {"id": 3}

or {"id": …, "error": "…"}. A code is null while the server runs, else how it ended.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any

PARENT_CHECK_SECONDS = 1.0
"""Seconds between looks at the parent: a forked child of it may hold the pipe open after its death."""
PATIENCE = 10.0
"""Seconds that servers get to end by themselves, before SIGKILL."""


@dataclass(frozen=True)
class Child:
    """A server, and the signal that ends it when its data no longer matter."""

    process: subprocess.Popen[bytes]
    quit: int


class ServerSupervisor:
    """The servers of one parent and the folder that they share, owned by the user they run as."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._children: dict[str, Child] = {}
        self._user = unprivileged_user()
        self.folder = Path(tempfile.mkdtemp(prefix="crawlyard-", dir=place_for_folders()))
        if self._user:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)

    def serve(self) -> None:
        """Do what the parent asks, until it closes the pipe or is gone."""
        tell({"folder": str(self.folder)})
        for request in self._requests():
            try:
                reply = getattr(self, f"do_{request['do']}")(request)
            except (OSError, subprocess.SubprocessError) as error:
                reply = {"error": str(error)}
            tell({"id": request["id"], **reply})

    def _requests(self) -> Iterator[Any]:
        while os.getppid() == self._parent:
            if select([sys.stdin], [], [], PARENT_CHECK_SECONDS)[0]:
                line = sys.stdin.readline()
                if not line:
                    return
                yield json.loads(line)

    def do_start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a server in the folder; what it prints goes to NAME.log there."""
        user = self._user
        with (self.folder / f"{request['name']}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the parent, which started us, names the program
                request["argv"],
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        self._children[request["name"]] = Child(process, request["quit"])
        return {"pid": process.pid}

    def do_poll(self, request: dict[str, Any]) -> dict[str, Any]:
        """How a server ended, or null."""
        return {"code": self._children[request["name"]].process.poll()}

    def do_signal(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a signal, unless the server has ended: its pid may be another's by now."""
        self._children[request["name"]].process.send_signal(request["signal"])
        return {}

    def reap(self) -> None:
        """Collect servers that have ended, so that they do not linger as zombies."""
        for child in self._children.values():
            child.process.poll()

    def clean_up(self) -> None:
        """End every server, by force where need be, and remove the folder."""
        for child in self._children.values():
            child.process.send_signal(child.quit)
            child.process.send_signal(signal.SIGCONT)  # one that was frozen could not obey
        deadline = time.monotonic() + PATIENCE
        for child in self._children.values():
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
        self._remove_folder()

    def _remove_folder(self) -> None:
        """Backends of a killed Postgres notice its death in a moment, and may write until then."""
        deadline = time.monotonic() + PATIENCE
        while self.folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(0.01)


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom servers run as when we are root, since Postgres refuses root; None: as ourselves."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def place_for_folders() -> str:
    """The system's temporary directory; for root one that every user can reach."""
    usual = tempfile.gettempdir()
    if os.geteuid() != 0:
        return usual
    return next((place for place in (usual, "/tmp", "/var/tmp") if open_to_all(Path(place))), usual)  # noqa: S108


def open_to_all(folder: Path) -> bool:
    """Whether every user can pass through *folder* and its parents."""
    resolved = folder.resolve()
    return all(one.exists() and one.stat().st_mode & 0o001 for one in (resolved, *resolved.parents))


def environment() -> dict[str, str]:
    """Nothing of the parent's but its time zone: there may be secrets in it, or a PGDATA."""
    kept = {name: os.environ[name] for name in ("TZ",) if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", **kept}


def tell(message: dict[str, Any]) -> None:
    """Write one line to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Keep servers for the process whose pid is the argument."""
    try:
        supervisor = ServerSupervisor(parent=int(sys.argv[1]))
    except OSError as error:
        tell({"error": str(error)})
        return
    signal.signal(signal.SIGCHLD, lambda *_: supervisor.reap())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    try:
        with suppress(BrokenPipeError):
            supervisor.serve()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        supervisor.clean_up()


if __name__ == "__main__":
    main()
