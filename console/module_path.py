"""Keeps Python from importing modules out of the directory in which the command happens to run."""

import sys
from pathlib import Path

_HOME = Path(__file__).resolve().parents[1]


def leave_current_directory() -> None:
    """Remove the current directory from the import path, unless it is the one that contains Crawlyard."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the directory was removed: no module can be found there either
        return
    if here != _HOME:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
