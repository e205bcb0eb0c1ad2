"""The doctor's examination of this machine: its temporary folder, and the locale of this process."""

import codecs
import os
import sys
import tempfile

from console.checks.doctor.finding import Finding, judged
from tasks.start.temporary_folder import why_no_temporary_folder

_LEAST_BYTES = 16 * 1024**2
_LEAST_FILES = 100
"""A worker's files are few and small; with less than this something else is about to fill the folder."""


def examine_machine() -> list[Finding]:
    """Examine what a worker of this user would find here; this needs no server."""
    return [_temporary_folder(), _locale()]


def _temporary_folder() -> Finding:
    about = "temporary folder"
    if why := why_no_temporary_folder():
        cause, _, remedy = why.rpartition(". ")
        return Finding(about, "fault", cause, f"{remedy} A worker with children does not start without.")
    folder = tempfile.gettempdir()
    room = os.statvfs(folder)
    if (asked := _asked_for()) and os.path.abspath(asked) != folder:  # noqa: PTH100 - as tempfile compares
        detail = f"{asked} cannot be written to; {folder} is used"
        remedy = "Make it writable, or correct TMPDIR: `crawlyard health` sees only workers that use the same folder."
        return Finding(about, "warning", detail, remedy)
    left, files = room.f_bavail * room.f_frsize, room.f_favail if room.f_files else _LEAST_FILES
    unusable = "; no program can be started there (noexec), which only embedded servers need"
    return judged(
        about,
        f"{folder}, with {left // 1024**2:,} MiB left"
        + (f" for {files} files" if files < _LEAST_FILES else "")
        + (unusable if room.f_flag & os.ST_NOEXEC else ""),
        good=left >= _LEAST_BYTES and files >= _LEAST_FILES,
        remedy="Free some, or set TMPDIR: once it is full, a worker uses another folder, where `crawlyard health` may "
        "not see it.",
        otherwise="warning",
    )


def _asked_for() -> str | None:
    """The folder that the environment names; the first of these counts."""
    return next((os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)), None)


def _locale() -> Finding:
    encoding = codecs.lookup(sys.getfilesystemencoding()).name
    named = [f"{name}={os.environ[name]}" for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)]
    return judged(
        "locale",
        f"names of files are read as {encoding} ({named[0] if named else 'no locale is set'})",
        good=encoding == "utf-8",
        remedy="Set LC_ALL=C.UTF-8. Without it no file can be named whose name is not ASCII, and output is escaped; "
        "settings and arguments are read as UTF-8 all the same.",
        otherwise="warning",
    )
