"""
Runs servers for a parent process, and outlives it to stop them and to remove their folder.

A script that needs only the standard library, started as `python -I supervisor.py PARENT_PID`. However the
parent ends (normally, by Ctrl-C, by SIGKILL), the supervisor sees the pipe close and cleans up. It starts the
servers itself, so that no server can run that it does not know of.

Its first line on stdout names the folder. After that, each line of JSON on stdin is answered by one line:

    {"id": 1, "do": "start", "name": "redis", "argv": [...], "quit": 15}   -> {"id": 1, "pid": 4711}
    {"id": 2, "do": "poll", "name": "redis"}                               -> {"id": 2, "code": null}
    {"id": 3, "do": "signal", "name": "redis", "signal": 9}                -> {"id": 3}

or by {"id": …, "error": "…"}. A code is null while the server runs, and its exit code afterwards.
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
"""Interval of the checks that the parent exists: a child that it forked may keep the pipe open after its death."""
PATIENCE = 10.0
"""Seconds until servers that do not end get SIGKILL."""


@dataclass(frozen=True)
class Child:
    """A server, and the signal that ends it fastest, since its data are not needed any more."""

    process: subprocess.Popen[bytes]
    quit: int


class ServerSupervisor:
    """The servers of one parent process, and their folder, which belongs to the user that they run as."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._children: dict[str, Child] = {}
        self._user = unprivileged_user()
        self.folder = Path(tempfile.mkdtemp(prefix="crawlyard-", dir=place_for_folders()))
        if self._user:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)

    def serve(self) -> None:
        """Answer the parent's requests until it closes the pipe or has ended."""
        send({"folder": str(self.folder)})
        for request in self._requests():
            try:
                reply = getattr(self, f"do_{request['do']}")(request)
            except (OSError, subprocess.SubprocessError) as error:
                reply = {"error": str(error)}
            send({"id": request["id"], **reply})

    def _requests(self) -> Iterator[Any]:
        while os.getppid() == self._parent:
            if select([sys.stdin], [], [], PARENT_CHECK_SECONDS)[0]:
                line = sys.stdin.readline()
                if not line:
                    return
                yield json.loads(line)

    def do_start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a server in the folder; its output goes to NAME.log there."""
        user = self._user
        with (self.folder / f"{request['name']}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the parent process names the program
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
        """Return a server's exit code, or null while it runs."""
        return {"code": self._children[request["name"]].process.poll()}

    def do_signal(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a signal, unless the server has ended: its pid may belong to another process by now."""
        self._children[request["name"]].process.send_signal(request["signal"])
        return {}

    def reap(self) -> None:
        """Collect servers that have ended, so that they do not remain as zombies."""
        for child in self._children.values():
            child.process.poll()

    def clean_up(self) -> None:
        """End every server, with SIGKILL if necessary, and remove the folder."""
        for child in self._children.values():
            child.process.send_signal(child.quit)
            child.process.send_signal(signal.SIGCONT)  # a frozen process does not handle the other signal
        deadline = time.monotonic() + PATIENCE
        for child in self._children.values():
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
        self._remove_folder()

    def _remove_folder(self) -> None:
        """Remove the folder repeatedly: backends of a killed Postgres may write to it for a moment."""
        deadline = time.monotonic() + PATIENCE
        while self.folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(0.01)


def unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user that servers run as if we are root, since Postgres refuses to run as root; else None."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def place_for_folders() -> str:
    """Return the system's temporary directory, or for root one that every user can reach."""
    usual = tempfile.gettempdir()
    if os.geteuid() != 0:
        return usual
    return next((place for place in (usual, "/tmp", "/var/tmp") if open_to_all(Path(place))), usual)  # noqa: S108


def open_to_all(folder: Path) -> bool:
    """Return true if every user can pass through *folder* and its parents."""
    resolved = folder.resolve()
    return all(one.exists() and one.stat().st_mode & 0o001 for one in (resolved, *resolved.parents))


def environment() -> dict[str, str]:
    """Pass on only the time zone of our environment, which may contain secrets, or PGDATA."""
    kept = {name: os.environ[name] for name in ("TZ",) if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", **kept}


def send(message: dict[str, Any]) -> None:
    """Write one line to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run servers for the process whose pid is the argument."""
    try:
        supervisor = ServerSupervisor(parent=int(sys.argv[1]))
    except OSError as error:
        send({"error": str(error)})
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
