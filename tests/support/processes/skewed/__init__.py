"""A process with a wrong clock; sitecustomize.py says what is shifted."""

import os
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[4]


def off(seconds: float) -> dict[str, str]:
    """The environment of a Python process whose clock is off by this much."""
    path = os.pathsep.join([str(Path(__file__).parent), str(_ROOT)])
    return {"CLOCK_OFF_S": str(seconds), "PYTHONPATH": path}
