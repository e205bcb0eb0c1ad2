"""The lines of README's "Bring crawlers" work as they stand."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.gateway.systems import ORIGIN, GatewaySystem
from support.processes.workers import ROOT, free_port, wait_until

pytestmark = [pytest.mark.programs, pytest.mark.database, pytest.mark.gate]

README = (ROOT / "README.md").read_text(encoding="utf-8")
SUBMIT = re.findall(r"^```python\n(import os\nfrom tasks.client .*?)^```$", README, re.MULTILINE | re.DOTALL)
LINES = re.findall(r"^```sh\n(export CRAWLER_SECRET.*?)^```$", README, re.MULTILINE | re.DOTALL)
JOB = "01KAQ3V1W00000000000000001"


def test_ten_lines_bring_a_crawler(system: GatewaySystem, tmp_path: Path) -> None:
    """The gateway starts, the crawler is known, gets the job of "Submit jobs", and finishes it."""
    [lines], [submit] = LINES, SUBMIT
    assert len(lines.splitlines()) <= 10
    port = str(free_port())
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "submit.py").write_text(submit)
    (tmp_path / "lines.sh").write_text(lines.replace("7433", port) + "wait\n")
    system.system.rows("INSERT INTO account (id, access_token) VALUES ('account-1', 'a-token')")
    system.system.rows(
        "INSERT INTO account_origin (account_id, origin, bound_by) VALUES ('account-1', %s, 'operator')",
        ORIGIN,
    )
    output = tmp_path / "output"
    with output.open("w") as printed:
        shell = subprocess.Popen(
            ["bash", "-e", "lines.sh"], cwd=tmp_path, stdout=printed, stderr=printed, start_new_session=True,
            env=os.environ | {
                "DATABASE_URL": system.system.database_url, "BROKER_URL": system.system.broker_url,
                "CRAWLYARD_GATEWAY_LISTEN": f"tcp://127.0.0.1:{port}", "PYTHONPATH": str(ROOT),
            },
        )  # fmt: skip
    try:
        finished = "SELECT count(*) FROM job WHERE id = %s AND status = 'finished'"
        wait_until(lambda: system.system.one(finished, JOB), "the job is finished")
        wait_until(lambda: "job_assigned" in output.read_text(), "the events are printed")
        known = "SELECT crawler_id FROM socket_connection WHERE crawler_credential IS NOT NULL"
        assert system.system.rows(known) == [("crawler-1",)]
        assert "crawled page 5 of issue group/project" in output.read_text()
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(timeout=40)
