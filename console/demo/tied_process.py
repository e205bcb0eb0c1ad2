"""
Runs one program, and ends it when whoever started us closes our standard input, or dies.

A script of the standard library alone: `python -I tied_process.py SECONDS PROGRAM ARGUMENT…`. SIGTERM goes
to the program, and after SECONDS SIGKILL to all of its process group. Exits as the program did.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the program to its end, or to ours."""
    patience, argv = float(sys.argv[1]), sys.argv[2:]
    program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - the parent's
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: program.terminate())
    threading.Thread(target=end_with_parent, args=(program, patience), daemon=True).start()
    code = program.wait()
    kill_group(program)  # pool processes that outlived their worker
    sys.exit(code if code >= 0 else 128 - code)


def end_with_parent(program: "subprocess.Popen[bytes]", patience: float) -> None:
    """Wait until nobody holds the other end of our input, then end the program."""
    while os.read(sys.stdin.fileno(), 4096):  # not by its buffer: that is locked when we exit before
        pass
    program.terminate()
    try:
        program.wait(patience)
    except subprocess.TimeoutExpired:
        kill_group(program)


def kill_group(program: "subprocess.Popen[bytes]") -> None:
    """Leave nothing behind."""
    try:
        os.killpg(program.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
