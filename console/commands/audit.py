"""`crawlyard audit`: checks every invariant as of one moment."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import click
from sqlalchemy import text

from console.output import screen
from console.output.exit_codes import FAILED_CHECK
from console.views import audit as audit_view
from persistence.audit.audit import CHECKS, STATEMENT_TIMEOUT, Fault, run_checks
from persistence.db.snapshot import snapshot
from persistence.migrations.head import require_head
from persistence.settings import settings

OnChecked = Callable[[str, Fault | None], None]

_NOW = text("SELECT now()")


@dataclass(frozen=True)
class AuditResult:
    """The checks that ran, when, and the faults that they found."""

    taken_at: datetime
    """By the database's clock."""
    seconds: float
    checks: Sequence[str]
    faults: Sequence[Fault]


def show_audit(*, only: Sequence[str], as_json: bool) -> int:
    """Check all invariants, or only those named, and return the exit code: 1 if one is broken."""
    _refuse_unknown(only)
    settings()
    names = list(dict.fromkeys(only or CHECKS))
    if as_json:
        result = _audit(names, lambda _name, _fault: None)
        screen.print_json(result)
    else:
        with _reporter(names) as on_checked:
            result = _audit(names, on_checked)
        screen.console().print(audit_view.summary(result.taken_at, result.seconds, len(names), result.faults))
    return FAILED_CHECK if result.faults else 0


def show_checks(*, as_json: bool) -> None:
    """Print all checks with their meaning, without a database."""
    if as_json:
        screen.print_json({check.name: check.meaning for check in CHECKS.values()})
    else:
        screen.console().print(audit_view.checks(CHECKS.values()))


def _refuse_unknown(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in CHECKS]:
        raise click.BadParameter(
            f"there is no check {unknown[0]!r}; --list prints all names", param_hint="--only"
        )


def _audit(names: Sequence[str], on_checked: OnChecked) -> AuditResult:
    started = time.monotonic()
    with snapshot(STATEMENT_TIMEOUT) as connection:
        require_head(connection)
        taken_at = connection.execute(_NOW).scalar_one()
        faults = []
        for check, fault in run_checks(connection, names):
            on_checked(check.name, fault)
            faults += [fault] if fault else []
    return AuditResult(taken_at, round(time.monotonic() - started, 2), names, faults)


@contextmanager
def _reporter(names: Sequence[str]) -> Iterator[OnChecked]:
    """Print each check as it ends; on a terminal, also show which one is running."""
    out = screen.console()
    with out.status(audit_view.running(names, 0)) as status:
        ended = 0

        def on_checked(name: str, fault: Fault | None) -> None:
            nonlocal ended
            ended += 1
            out.print(audit_view.line(name, fault), soft_wrap=True)
            status.update(audit_view.running(names, ended))

        yield on_checked
