"""Programs that a test starts: they hear signals, whoever started the tests, and end with the test."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def let_children_hear_signals() -> None:
    """
    Give programs that this process starts from now on the default action for the signals that end a program.

    A script that starts a job with `&` makes it ignore SIGINT, nohup makes it ignore SIGHUP, and some CI runners
    do both. What is ignored or blocked is inherited by every program below, and a Python that ignores SIGINT
    raises no KeyboardInterrupt. A handler is not inherited: the new program has the default. Ours does nothing,
    so that this process goes on ignoring the signal, as it was asked to.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@contextmanager
def program(command: Sequence[str | Path], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run a program; at the end it is killed if need be, and its pipes are closed, also where the test fails."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()
