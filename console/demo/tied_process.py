"""
Runs one program, and ends it when the parent process closes our standard input or dies.

A script that needs only the standard library: `python -I tied_process.py SECONDS PROGRAM ARGUMENT…`. It sends
SIGTERM to the program and, after SECONDS, SIGKILL to its process group. SIGUSR1 kills the program at once. It exits
with the program's code.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the program until it ends, or until the parent process does."""
    patience, argv = float(sys.argv[1]), sys.argv[2:]
    program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - the parent's
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: program.terminate())
    signal.signal(signal.SIGUSR1, lambda *_: program.kill())
    threading.Thread(target=end_with_parent, args=(program, patience), daemon=True).start()
    code = program.wait()
    kill_group(program)  # pool processes that outlived their worker
    sys.exit(code if code >= 0 else 128 - code)


def end_with_parent(program: "subprocess.Popen[bytes]", patience: float) -> None:
    """Wait until the other end of our input is closed, then end the program."""
    while os.read(sys.stdin.fileno(), 4096):  # unbuffered: at exit, a lock on the buffer would block
        pass
    program.terminate()
    try:
        program.wait(patience)
    except subprocess.TimeoutExpired:
        kill_group(program)


def kill_group(program: "subprocess.Popen[bytes]") -> None:
    """Kill all that is left of the program's process group."""
    try:
        os.killpg(program.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
