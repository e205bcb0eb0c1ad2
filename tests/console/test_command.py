"""The `crawlyard` command: its help, its exit codes, and how it reports wrong settings and wrong requests."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from console.embedded.servers import Services
from console.main import crawlyard
from console.output.screen import duration, plain
from console.output.urls import shown
from support.command import SECRET, Run

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    "worker",
    "beat",
    "gateway",
    "status",
    "progress",
    "connections",
    "stats",
    "health",
    "doctor",
    "audit",
    "events",
    "contract",
    "errors",
    "rejected",
    "jobs",
    "areas",
    "accounts",
    "crawlers",
    "gitlab",
    "migrate",
    "adopt",
    "services",
    "demo",
]
NEED_SETTINGS = ["worker", "beat", "status", "stats", "health", "doctor", "audit", "migrate", "adopt"]


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_without_settings(
    command: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--help works without DATABASE_URL and BROKER_URL, and every option has a help text."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("BROKER_URL", raising=False)

    output = run(command, "--help")

    assert (output.code, output.err) == (0, "")
    assert f"crawlyard {command}" in output.out
    assert all(
        option.help for option in crawlyard.commands[command].params if option.param_type_name == "option"
    )


def test_the_help_lists_every_command_under_a_heading(run: Run) -> None:
    """Commands are listed under run, look, change and set up, in this order."""
    output = run("--help")

    positions = [output.out.index(f"\n  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    assert [heading in output.out for heading in ("Run:", "Look:", "Change:", "Set up:")] == [True] * 4
    assert sorted(crawlyard.commands) == sorted(COMMANDS)


def test_the_help_imports_no_heavy_modules() -> None:
    """--help imports no library that a command needs only when it runs."""
    code = (
        "import sys; from console.main import crawlyard; crawlyard(['--help'], standalone_mode=False);"
        "print(sorted({'alembic', 'celery', 'psycopg', 'pydantic', 'redis', 'rich', 'sqlalchemy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_the_version_is_one_line(run: Run) -> None:
    """--version prints the program's name and version."""
    output = run("--version")
    assert (output.code, len(output.out.splitlines()), output.out.split()[0]) == (0, 1, "crawlyard")


# Wrong settings and wrong requests


WRONG = [
    ("DATABASE_URL", "", "DATABASE_URL must be set"),
    ("DATABASE_URL", f"mysql://me:{SECRET}@localhost/x", "DATABASE_URL must begin with"),
    ("BROKER_URL", f"amqp://me:{SECRET}@localhost", "BROKER_URL must begin with"),
    ("CRAWLYARD_SWEEP_INTERVAL", SECRET, "CRAWLYARD_SWEEP_INTERVAL must be a number of seconds"),
]


@pytest.mark.parametrize("command", NEED_SETTINGS)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong[2])
def test_a_wrong_setting_is_reported_by_name_in_one_line(
    command: str, wrong: tuple[str, str, str], services: Services, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command prints one line that names the variable and not its value, and exits with 2."""
    name, value, complaint = wrong
    monkeypatch.setenv(name, value)

    output = run(command)

    assert (output.code, output.out) == (2, "")
    assert len(output.err.splitlines()) == 1
    assert complaint in output.err
    assert SECRET not in output.err


def test_an_unknown_queue_is_a_usage_error(database: str, run: Run) -> None:
    """A misspelt queue is refused before the worker starts."""
    output = run("worker", "--queues", "crawler,dispach")
    assert output.code == 2
    assert "there is no queue 'dispach'; there are crawler, dispatch, upkeep" in output.err


def test_ctrl_c_prints_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 130, as a shell expects; only a line break separates the prompt."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("console.commands.contract.show_contract", interrupted)
    output = run("contract")
    assert (output.code, output.out, output.err.strip()) == (130, "", "")


def test_a_broken_pipe_prints_nothing() -> None:
    """A reader that closes the pipe early, such as `head`, causes no error message."""
    reading, writing = os.pipe()
    os.close(reading)
    found = subprocess.run(
        [sys.executable, "-m", "console.main", "contract"],
        cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (found.returncode, found.stderr) == (1, b"")


# Formatting


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://me:a@b/c@host:5432/x", "postgresql://me:***@host:5432/x"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_urls_are_shown_without_their_passwords(url: str, expected: str) -> None:
    """The password is masked whatever characters it contains, also as a query parameter."""
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.25, "0.2 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_665, "1 h 1 min"),
        (180_000, "2 d 2 h"),
        (-5, "0 s"),
    ],
)
def test_durations_are_shown_in_at_most_two_units(seconds: float, expected: str) -> None:
    """A duration has its largest unit and at most the next smaller one."""
    assert duration(timedelta(seconds=seconds)) == expected


def test_text_from_the_data_is_made_printable() -> None:
    """Line breaks, escapes and direction marks become dots; letters of every script stay."""
    assert plain("a\nb\x1b[0m\u202eßå漢") == "a·b·[0m·ßå漢"
