"""`crawlyard doctor`: examines everything that Crawlyard depends on, and says how to fix what is wrong."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version as version_of

from rich.table import Table
from rich.text import Text

from console.checks.broker import queue_names
from console.checks.deadline import begin, within
from console.checks.doctor.broker import examine_broker
from console.checks.doctor.database import examine_database
from console.checks.doctor.finding import Finding, Level
from console.checks.doctor.gateway import examine_gateway
from console.checks.doctor.machine import examine_machine
from console.checks.doctor.settings import Setting, all_settings, examine_settings
from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.output.screen import counted, plain
from console.output.urls import reason
from persistence.exceptions import CrawlyardError, UnsuitableDatabaseError
from persistence.settings import settings
from persistence.version import version

_TIMEOUT_S = 15.0
_LIBRARIES = ("celery", "kombu", "redis", "sqlalchemy", "psycopg")
_STYLES: dict[Level, str] = {"ok": "green", "warning": "yellow", "fault": "bold red"}


@dataclass(frozen=True)
class Diagnosis:
    """Versions, findings and settings."""

    versions: dict[str, str]
    findings: list[Finding]
    settings: list[Setting]

    def count(self, level: Level) -> int:
        """Return the number of findings of that level."""
        return sum(finding.level == level for finding in self.findings)


def show_diagnosis(*, as_json: bool) -> int:
    """Print the diagnosis, and return the exit code: 1 if there is a fault."""
    found = diagnose()
    if as_json:
        screen.print_json(found)
    else:
        _print(found)
    return FAILED_CHECK if found.count("fault") else 0


def diagnose() -> Diagnosis:
    """Examine everything. A server that does not answer is a fault; the others are examined all the same."""
    settings()
    queue_names()  # imports modules that must not be imported in a thread first
    import_module("tasks.app")  # likewise
    findings = [
        *examine_machine(),
        *examine_settings(),
        *examine_gateway(),
        *_examined("database", examine_database, "Is it running, and is DATABASE_URL right?"),
        *_examined("broker", examine_broker, "Is it running, and is BROKER_URL right?"),
    ]
    return Diagnosis(_versions(), findings, all_settings())


def _examined(about: str, examine: Callable[[], list[Finding]], remedy: str) -> list[Finding]:
    try:
        return within(_TIMEOUT_S, begin(examine), f"The {about}")
    except UnsuitableDatabaseError as error:
        return [
            Finding(about, "fault", reason(error), "Then point DATABASE_URL there; no worker starts here.")
        ]
    except CrawlyardError as error:
        return [Finding(about, "fault", reason(error), remedy)]


def _versions() -> dict[str, str]:
    ours = {"crawlyard": version(), "python": platform.python_version()}
    return ours | {library: version_of(library) for library in _LIBRARIES}


def _print(found: Diagnosis) -> None:
    out = screen.console()
    out.print(Text(", ".join(f"{name} {number}" for name, number in found.versions.items()), style="dim"))
    out.print(_findings_table(found.findings))
    out.print(_settings_table(found.settings))
    out.print(
        Text(
            f"{counted(found.count('fault'), 'fault')}, {counted(found.count('warning'), 'warning')}.", "bold"
        )
    )


def _findings_table(findings: list[Finding]) -> Table:
    table = _table("", "examined", "found")
    for finding in findings:
        detail = Text(plain(finding.detail))
        if finding.remedy:
            detail.append(f"\n→ {finding.remedy}", style=_STYLES[finding.level])
        table.add_row(Text(finding.level, style=_STYLES[finding.level]), finding.about, detail)
    return table


def _settings_table(values: list[Setting]) -> Table:
    table = _table("setting", "value", "from", "meaning")
    table.columns[0].no_wrap = True
    for one in values:
        style = "" if one.source == "environment" else "dim"
        table.add_row(
            Text(one.name, style), Text(plain(one.value)), Text(one.source, style), Text(one.meaning, "dim")
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
