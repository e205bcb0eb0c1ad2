"""Where our own modules are looked for: never in the directory that somebody happens to stand in."""

import sys
from pathlib import Path

_HOME = Path(__file__).resolve().parents[1]


def leave_current_directory() -> None:
    """Let no module be found in the current directory, unless it is the one that Crawlyard itself lies in."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # somebody removed it under our feet: nothing can be found there either
        return
    if here != _HOME:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
