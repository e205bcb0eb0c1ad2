"""A pytest plugin that reports the failures, and where the product was loaded from."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from proofs.mutants.project import PRODUCT

VARIABLE = "MUTANT_REPORT"
"""Names the file to which the report is written."""

_failures: list[dict[str, str]] = []
_passed = 0


def pytest_collectreport(report: Any) -> None:
    """Record what could not be collected."""
    if report.failed:
        _failures.append({"test": report.nodeid, "when": "collect", "said": report.longreprtext})


def pytest_runtest_logreport(report: Any) -> None:
    """Record a failure with its output, and count the tests that passed."""
    global _passed  # noqa: PLW0603 - a plugin is a module
    if report.failed:
        said = "\n".join([report.longreprtext, *(text for _, text in report.sections)])
        _failures.append({"test": report.nodeid, "when": report.when, "said": said})
    elif report.when == "call" and report.passed:
        _passed += 1


def pytest_sessionfinish() -> None:
    """Write the report; of several xdist processes only the parent does."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    report = {"failures": _failures, "passed": _passed, "strayed": _strayed()}
    Path(os.environ[VARIABLE]).write_text(json.dumps(report), encoding="utf-8")


def _strayed() -> list[str]:
    """Return modules of the product that were not loaded from this copy: then the mutant was not tried."""
    files = [str(getattr(sys.modules.get(name), "__file__", None) or "") for name in PRODUCT]
    return [file for file in files if file and not Path(file).is_relative_to(Path.cwd())]
