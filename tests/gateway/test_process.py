"""What the process of a gateway does for itself."""

import subprocess
import sys

import pytest

READ_DUMPABLE = """
import ctypes
from gateway.process import _forbid_core_files
_forbid_core_files()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_no_core_file_holds_a_token() -> None:
    """The process is not dumpable: not by a crash, and not by another process of its user."""
    asked = subprocess.run([sys.executable, "-c", READ_DUMPABLE], capture_output=True, text=True, check=True)

    assert asked.stdout == "0\n"


def test_the_process_needs_no_celery() -> None:
    """It publishes without it, and its memory is for links."""
    loaded = "import sys, gateway.process; print({'celery', 'kombu', 'alembic'} & sys.modules.keys())"
    asked = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)

    assert asked.stdout == "set()\n"
