"""Output never fails for an encoding, and a missing temporary folder is one line."""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from console.checks.processes import check_liveness
from console.embedded.temporary_folder import temporary_sandbox
from console.output import screen
from console.output.encoding import never_fail
from console.output.exit_codes import WRONG_REQUEST, ended
from tasks.worker import lifecycle

NO_FOLDER = (
    "No usable temporary directory found in ['/proc/nowhere']. "
    "Set TMPDIR to a folder that this user can write to."
)


@contextmanager
def ascii_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """Standard output as in a locale without UTF-8, and what was written to it."""
    written = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", errors="strict"))
        never_fail()
        yield written
        sys.stdout.detach()


def test_what_cannot_be_encoded_is_written_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own signs have a spelling in ASCII; other characters are escaped."""
    with ascii_output(monkeypatch) as written:
        screen.console().print("→ ± … · é 🦊")
        sys.stdout.flush()
    assert written.getvalue().decode().strip() == r"-> +- ... . \xe9 \U0001f98a"


def test_json_stays_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its values are the same in every encoding."""
    with ascii_output(monkeypatch) as written:
        screen.print_json({"name": "→ é 🦊"})
        sys.stdout.flush()
    assert json.loads(written.getvalue()) == {"name": "→ é 🦊"}


def test_the_doctor_prints_in_the_locale_of_a_bare_container(nowhere: str) -> None:
    """The whole program, without UTF-8 and without servers: it ends with its own exit code, and no traceback."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    result = subprocess.run(
        [sys.executable, "-m", "console.main", "doctor"],
        capture_output=True,
        env=os.environ | plain | {"BROKER_URL": "redis://127.0.0.1:9/0", "PYTHONPATH": ":".join(sys.path)},
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, b"")
    assert b"-> Is it running" in result.stdout


@pytest.fixture
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder is writable, as in a container with a read-only root."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])


def test_a_worker_with_children_does_not_start_without_a_temporary_folder(no_folder: None) -> None:
    """Its children's locks are there. The other pools go on, unseen by `health --worker`."""
    with pytest.raises(SystemExit) as ended_with:
        lifecycle._begin(sender=SimpleNamespace(pool_cls="prefork"))
    assert str(ended_with.value) == NO_FOLDER


def test_health_says_that_there_is_no_temporary_folder(no_folder: None) -> None:
    """The check fails: it cannot see a worker."""
    assert [(check.healthy, check.detail) for check in check_liveness("worker")] == [(False, NO_FOLDER)]


def test_a_command_that_needs_a_temporary_folder_ends_in_one_line(
    no_folder: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as `crawlyard services`."""

    def command() -> None:
        with temporary_sandbox():
            raise AssertionError

    assert ended(command) == WRONG_REQUEST
    assert capsys.readouterr().err == f"crawlyard: {NO_FOLDER}\n"
