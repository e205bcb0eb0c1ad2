"""examples/crawlers/python keeps what docs/wire-protocol.md says that a crawler owes."""

import asyncio
import sys
from pathlib import Path

from support.processes.workers import ROOT
from support.wire.scripted import check_a_whole_life

PROGRAM = ROOT / "examples" / "crawlers" / "python" / "crawler.py"


def test_it_owes_nothing(tmp_path: Path) -> None:
    """Session, acknowledgement, cancel, resume state, reconnection, a planned shutdown, and a crash."""
    asyncio.run(check_a_whole_life([sys.executable, "-S", str(PROGRAM)], tmp_path))


def test_it_is_short() -> None:
    """It is to be read at a glance, and so is the other one."""
    for program in PROGRAM.parents[1].glob("*/crawler.*"):
        assert len(program.read_text(encoding="utf-8").splitlines()) < 100
