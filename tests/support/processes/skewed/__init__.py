"""A process whose clock is off; what is shifted is said in sitecustomize.py."""

import os
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[4]


def off(seconds: float) -> dict[str, str]:
    """The environment of a Python process whose clock is off by so much."""
    path = os.pathsep.join([str(Path(__file__).parent), str(_ROOT)])
    return {"CLOCK_OFF_S": str(seconds), "PYTHONPATH": path}
