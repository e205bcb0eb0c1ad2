"""The crawler of examples/crawlers/typescript, compiled and run as a process; for `make test-node`."""

import asyncio
import subprocess
from pathlib import Path

from support.processes.workers import ROOT
from support.wire.scripted import check_a_whole_life

PROGRAM = ROOT / "examples" / "crawlers" / "typescript"
WEB_APP = ROOT / "examples" / "web-app"
STRICT = ("--strict", "--noUncheckedIndexedAccess", "--verbatimModuleSyntax")


def compiled(folder: Path) -> Path:
    """Compile it as a Node that strips types runs it: whatever is not erased is an error."""
    tsc = WEB_APP / "node_modules" / ".bin" / "tsc"
    subprocess.run(
        [
            tsc, "--ignoreConfig", *STRICT, "--erasableSyntaxOnly", "--target", "es2023", "--module", "nodenext",
            "--types", "node", "--typeRoots", WEB_APP / "node_modules" / "@types",
            "--rootDir", PROGRAM, "--outDir", folder, PROGRAM / "crawler.ts",
        ],
        check=True,
    )  # fmt: skip
    (folder / "package.json").write_text((PROGRAM / "package.json").read_text())
    return folder / "crawler.js"


def test_it_owes_nothing(tmp_path: Path) -> None:
    """Session, acknowledgement, cancel, resume state, reconnection, a planned shutdown, and a crash."""
    asyncio.run(check_a_whole_life(["node", str(compiled(tmp_path))], tmp_path))
