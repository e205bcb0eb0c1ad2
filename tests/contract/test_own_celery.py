"""Celery's environment variables do not reach our apps: only our settings count."""

import os
import re
import subprocess
import sys
from pathlib import Path

import celery
import pytest

from console.checks.doctor.settings import examine_settings
from persistence.settings import settings
from support.command import Run
from tasks.client import Producer
from tasks.own_celery import VARIABLES, drop_variables, foreign_variables

FOREIGN = {
    "CELERY_BROKER_URL": "redis://127.0.0.1:9/7",
    "CELERY_BROKER_READ_URL": "redis://127.0.0.1:9/7",
    "CELERY_BROKER_WRITE_URL": "redis://127.0.0.1:9/7",
    "CELERY_RESULT_BACKEND": "django-db",
    "CELERY_LOADER": "nowhere:Loader",
    "CELERY_CONFIG_MODULE": "nowhere",
    "DJANGO_SETTINGS_MODULE": "nowhere",
}

IN_A_HOST = """
import sys
from tasks.client import Producer
Producer(sys.argv[1]).publish("jobs.assign", {})
"""

OWN_APP = """
from tasks.app import app
from persistence.settings import settings
ours = settings().broker_url
assert (app.conf.broker_url, app.conf.broker_read_url, app.conf.broker_write_url) == (ours, ours, ours)
assert app.conf.result_backend is None
assert app.backend.as_uri() == "disabled://", app.backend.as_uri()
with app.connection_for_read() as read, app.connection_for_write() as write:
    assert read.as_uri(include_password=True) == write.as_uri(include_password=True)
    write.ensure_connection(max_retries=1)
"""


def in_process(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program with all of these variables."""
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | FOREIGN | {"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )


def test_our_app_uses_our_broker_and_no_backend(broker: str, database: str) -> None:
    """Whatever another application of the host set for its own Celery."""
    result = in_process(OWN_APP)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_producer_publishes_where_it_was_told_to(broker: str) -> None:
    """A web app's variables, loader and backend do not reach the producer within it, and stay the web app's."""
    result = in_process(IN_A_HOST, broker)
    assert (result.returncode, result.stderr) == (0, "")


def test_every_variable_that_celery_reads_is_known() -> None:
    """A new version of Celery may read more; each must be overridden or dropped. CELERY_LOG_… it sets itself."""
    folder = Path(celery.__file__).parent
    read = re.compile(r"""(?:environ(?:\.get)?[\[(]|getenv\(|_env\(|envvar=)\s*['"](CELERY_\w+)['"]""")
    found = {name for path in folder.rglob("*.py") for name in read.findall(path.read_text(encoding="utf-8"))}
    assert {name for name in found if not name.startswith("CELERY_LOG_")} <= set(VARIABLES)
    assert "CELERY_BROKER_URL" in found


@pytest.fixture
def foreign(broker: str, database: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The variables are set in this process; returns those that differ."""
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    return [name for name in FOREIGN if name.startswith("CELERY_")]


def test_variables_that_differ_are_named_in_one_line(foreign: list[str], run: Run) -> None:
    """The doctor names them, without values; one that says the same is no matter."""
    assert sorted(foreign_variables(settings().broker_url)) == sorted(foreign)
    (finding,) = [f for f in examine_settings() if f.about == "Celery's variables"]
    assert finding.level == "warning"
    assert "CELERY_RESULT_BACKEND" in finding.detail
    assert "django-db" not in finding.detail
    assert foreign_variables(FOREIGN["CELERY_BROKER_URL"]) == [n for n in foreign if "BROKER" not in n]


def test_a_worker_says_so_in_one_line_and_drops_them(
    foreign: list[str], run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for what Celery would read later, such as the signal that opens its debugger."""
    monkeypatch.setenv("CELERY_RDBSIG", "1")
    monkeypatch.setattr("console.commands.worker._greet", lambda _text: sys.exit(3))
    with pytest.raises(SystemExit, match="3"):
        run("beat")
    assert (
        capsys.readouterr().err.count("are ignored: only BROKER_URL and the settings of Crawlyard count.")
        == 1
    )
    assert not [name for name in VARIABLES if name in os.environ]


def test_a_producer_of_this_process_ignores_them(foreign: list[str], broker: str) -> None:
    """The same without a process of its own."""
    producer = Producer(broker)
    producer.publish("jobs.assign", {})
    producer.close()
    drop_variables()
    assert foreign_variables(broker) == []
