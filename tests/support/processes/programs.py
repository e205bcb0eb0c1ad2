"""Programs that a test starts: they receive signals whatever started the tests, and end with the test."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def restore_default_signals() -> None:
    """
    Give programs that this process starts from now on the default action for the signals that end a program.

    A script that starts a job with `&` makes it ignore SIGINT, nohup makes it ignore SIGHUP, and some CI runners do
    both. Child programs inherit ignored and blocked signals, and a Python that ignores SIGINT raises no
    KeyboardInterrupt. Handlers are not inherited: a new program gets the default action. The handlers set here do
    nothing, so that this process keeps ignoring the signal.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@contextmanager
def program(command: Sequence[str | Path], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run a program; at the end kill it if it still runs, and close its pipes, even if the test fails."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()
