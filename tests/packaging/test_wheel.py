"""The wheel works in an empty environment, whatever files the current directory contains."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import psycopg
import pytest

from support.processes.workers import wait_until

ROOT = Path(__file__).resolve().parents[2]
DECOYS = [
    "tasks/__init__.py",
    "persistence/__init__.py",
    "console/__init__.py",
    "celeryconfig.py",
    "structlog.py",
]


@dataclass(frozen=True)
class Installed:
    """The `crawlyard` command of an environment with only the wheel, run in another folder."""

    program: Path
    folder: Path

    def run(self, *arguments: str) -> str:
        """Run a command, which must succeed; returns its output."""
        found = subprocess.run(
            [self.program, *arguments], cwd=self.folder, env=_environment(), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert (found.returncode, found.stderr) == (0, "")
        return found.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Path]:
        """Run a command in the background; yields its log. It must end with 0 on SIGTERM."""
        log = self.folder.parent / f"{arguments[0]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.program, *arguments], cwd=self.folder, env=_environment(), stdout=output, stderr=output
            )
        try:
            yield log
            process.terminate()
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, built from the source."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in its own environment, and a folder full of decoys."""
    home = tmp_path_factory.mktemp("installed")
    environment = home / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    _install(wheel, environment)
    folder = home / "elsewhere"
    for decoy in DECOYS:
        path = folder / decoy
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"raise SystemExit('the decoy {decoy} was imported')\n")
    return Installed(environment / "bin" / "crawlyard", folder)


def _install(wheel: Path, environment: Path) -> None:
    python = environment / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--offline", "--no-deps", "--no-cache"]
    subprocess.run([*uv, "--python", python, wheel], check=True)
    # The dependencies come from the environment of the tests, so that no network is needed. A .pth file adds that
    # folder to the path, but .pth files in it are not read: an editable installation of our source is not found.
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    borrowed = [entry for entry in sys.path if entry.endswith("site-packages")]
    (Path(found.stdout.strip()) / "borrowed.pth").write_text("\n".join(borrowed))


def _environment() -> dict[str, str]:
    """Our environment without variables that lead to the source, and with unbuffered output."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"PYTHONUNBUFFERED": "1"}


def test_the_wheel_contains_only_our_packages(wheel: Path) -> None:
    """It contains the migrations, but no tests or benchmarks."""
    names = ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"celeryconfig.py", "console", "gateway", "persistence", "tasks"}
    assert "persistence/migrations/versions/0002_everything_promised.py" in names
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.gate
@pytest.mark.programs
def test_the_wheel_works_beside_foreign_modules(
    installed: Installed, empty_database: str, broker: str
) -> None:
    """It migrates, and a worker and beat sweep, without using or changing the current directory."""
    before = sorted(installed.folder.rglob("*"))

    assert installed.run("migrate").startswith("The database was migrated from nothing")
    assert "jobs.submit" in json.loads(installed.run("contract"))["schemas"]
    with (
        installed.running("worker", "--concurrency", "1") as worker,
        installed.running("beat") as beat,
    ):
        wait_until(lambda: " ready." in worker.read_text(), "the worker is ready")
        wait_until(lambda: "connections.expire_dead" in beat.read_text(), "beat publishes the sweep")
        wait_until(lambda: _swept(empty_database), "a sweep was recorded")
        assert installed.run("health").count("ok ") == 3

    assert "decoy" not in worker.read_text() + beat.read_text()
    assert sorted(installed.folder.rglob("*")) == before


def _swept(database: str) -> bool:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT last_sweep_at IS NOT NULL FROM liveness_state").fetchone()
    return row == (True,)
