"""What the doctor says of this machine: temporary folder, locale; and settings are UTF-8 in every locale."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from console.checks.doctor import database, machine
from console.checks.doctor.finding import Finding
from persistence.db.engine import engine
from persistence.db.server import patience
from persistence.environment import as_utf8

BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""An environment in which Python reads everything as ASCII."""

ROOMY = os.statvfs("/")


def folder(monkeypatch: pytest.MonkeyPatch, path: Path, **room: int) -> Finding:
    """What the doctor says of this temporary folder, with so much room."""
    given = {name: getattr(ROOMY, name) for name in ("f_bavail", "f_frsize", "f_files", "f_favail", "f_flag")}
    given |= {"f_bavail": 2**20, "f_frsize": 4096, "f_favail": 2**20, "f_flag": 0}
    monkeypatch.setattr(machine.os, "statvfs", lambda _path: SimpleNamespace(**given | room))
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return machine._temporary_folder()


def test_a_temporary_folder_with_room_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is named, with what is left."""
    found = folder(monkeypatch, tmp_path)
    assert (found.level, found.detail) == ("ok", f"{tmp_path}, with 4,096 MiB left")


@pytest.mark.parametrize(
    ("room", "detail"),
    [({"f_bavail": 100}, "with 0 MiB left"), ({"f_favail": 3}, "4,096 MiB left for 3 files")],
)
def test_a_temporary_folder_that_fills_up_is_a_warning(
    room: dict[str, int], detail: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By bytes or by the number of files, before it is full."""
    found = folder(monkeypatch, tmp_path, **room)
    assert (found.level, detail in found.detail) == ("warning", True)
    assert "set TMPDIR" in found.remedy


def test_a_file_system_that_does_not_count_files_has_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such as btrfs, which says 0."""
    assert folder(monkeypatch, tmp_path, f_files=0, f_favail=0).level == "ok"


def test_a_temporary_folder_without_programs_is_fine_for_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They start none there; embedded servers do."""
    found = folder(monkeypatch, tmp_path, f_flag=os.ST_NOEXEC)
    assert (found.level, "noexec" in found.detail) == ("ok", True)


def test_a_temporary_folder_that_is_not_the_one_asked_for_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`crawlyard health` would look for workers in the other one."""
    found = folder(monkeypatch, tmp_path / "nowhere")
    assert found.level == "warning"
    assert found.detail.startswith(f"{tmp_path / 'nowhere'} cannot be written to; ")


def test_no_temporary_folder_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the remedy."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])
    found = machine._temporary_folder()
    assert (found.level, found.detail) == (
        "fault",
        "No usable temporary directory found in ['/proc/nowhere']",
    )
    assert found.remedy.startswith("Set TMPDIR to a folder that this user can write to. ")


def test_the_locale_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what has chosen it; one without UTF-8 is a warning."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert machine._locale().detail == "names of files are read as utf-8 (no locale is set)"
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setattr(machine.sys, "getfilesystemencoding", lambda: "ascii")
    found = machine._locale()
    assert (found.level, found.detail) == ("warning", "names of files are read as ascii (LANG=C)")


def test_settings_are_read_as_utf8_in_every_locale() -> None:
    """Bytes that are no UTF-8 are refused in one line; before, each was a traceback."""
    read = "from persistence.settings import read_settings; print(ascii(read_settings().database_url[-6:]))"
    given = os.environ | BARE | {"BROKER_URL": "redis://x/0", "PYTHONPATH": ":".join(sys.path)}
    results = [
        subprocess.run(
            [sys.executable, "-c", read],
            env={key.encode(): value.encode() for key, value in given.items()} | {b"DATABASE_URL": url},
            capture_output=True,
            timeout=60,
            check=False,
        )
        for url in ("postgresql://me:pä@h/däta".encode(), b"postgresql://me:p@h/d\xff")
    ]
    assert results[0].stdout == b"'h/d\\xe4ta'\n"
    assert (
        results[1]
        .stderr.splitlines()[-1]
        .endswith(
            b"SettingsError: DATABASE_URL is neither UTF-8 nor readable in the encoding of this locale, ascii"
        )
    )


def test_words_of_a_command_are_read_as_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a locale in ASCII or Latin-1 has made of them is undone; what is no UTF-8 stays."""
    assert as_utf8("gr\udcc3\udcbcn") == "grün"
    assert as_utf8("gr\udcfcn") == "gr\udcfcn"
    assert as_utf8("grün") == "grün"


def test_a_system_without_tcp_timeouts_is_a_warning() -> None:
    """Only a pool that kills its tasks has something else."""
    found = database._patience(None)
    assert (found.level, found.detail) == ("warning", "this system sets none")
    assert "prefork" in found.remedy


@pytest.mark.usefixtures("database")
def test_the_time_after_which_a_silent_server_is_given_up_is_read_from_the_socket() -> None:
    """Not from what we asked for."""
    with engine().connect() as connection:
        limit = patience(connection)
        on_unix = connection.connection.driver_connection.info.host.startswith("/")  # type: ignore[union-attr]
    assert limit is not None
    assert limit.total_seconds() == (0 if on_unix else 15)
