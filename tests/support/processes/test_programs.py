"""Programs that tests start receive signals, even if the tests ignore them."""

import signal
import subprocess
import sys

import pytest

from support.processes.programs import program
from support.processes.workers import ROOT

AS_A_JOB_OF_A_SCRIPT = """
import os, signal, subprocess, sys
from support.processes.programs import restore_default_signals

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
restore_default_signals()
os.kill(os.getpid(), signal.SIGINT)
print(subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_child_receives_signals_that_the_tests_ignore(number: signal.Signals) -> None:
    """The process of the tests keeps ignoring the signal."""
    child = f"import os; os.kill(os.getpid(), {int(number)})"
    found = subprocess.run(
        [sys.executable, "-c", AS_A_JOB_OF_A_SCRIPT, child],
        cwd=ROOT / "tests", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == f"{-number}\n"


def test_a_program_ends_with_a_test_that_fails() -> None:
    """Its pipes are closed too; open ones would make another test fail."""
    command = [sys.executable, "-c", "print('begun', flush=True); input()"]
    with (
        pytest.raises(AssertionError),
        program(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout
        assert process.stdout.readline() == "gone\n"
    assert process.returncode == -signal.SIGKILL
    assert process.stdout
    assert process.stdout.closed
