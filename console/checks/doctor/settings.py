"""The doctor's examination of the settings: the value and source of each, and conflicts between them."""

import os
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches

from console.checks.doctor.finding import Finding, judged
from console.output.screen import duration
from console.output.urls import shown
from persistence.setting_types import NEVER
from persistence.settings import FILE_VARIABLES, PREFIX, Settings, settings, variable_of

_TEST_PREFIX = f"{PREFIX}TEST_"


@dataclass(frozen=True)
class Setting:
    """One setting, without passwords."""

    name: str
    value: str
    source: str
    meaning: str


def all_settings() -> list[Setting]:
    """Return every setting with its environment variable, without passwords."""
    given = settings().model_fields_set
    return [
        Setting(
            variable_of(field),
            _shown(getattr(settings(), field)),
            _source(variable_of(field), given=field in given),
            info.description or "",
        )
        for field, info in Settings.model_fields.items()
    ]


def _source(name: str, *, given: bool) -> str:
    if f"{name}_FILE" in os.environ:
        return "file"
    return "environment" if given else "default"


def examine_settings() -> list[Finding]:
    """Examine the settings; this needs no server."""
    return [_outages(), _time_limits(), *_foreign(), *_misspelt()]


def _outages() -> Finding:
    """Invalid values are refused at the start; this shows the margin."""
    gap, sweeps = settings().outage_gap, 2 * settings().sweep_interval
    return judged(
        "an outage of ours",
        f"assumed after {duration(gap)} without a sweep; two sweeps take {duration(sweeps)}",
        good=gap > sweeps,
        remedy=f"Raise {PREFIX}CONNECTION_TIMEOUT, or every sweep is taken for the end of an outage.",
    )


def _time_limits() -> Finding:
    import celeryconfig  # noqa: PLC0415 - importing it reads the settings, which must have been checked first

    hard = timedelta(seconds=celeryconfig.task_time_limit)
    redelivery = timedelta(seconds=float(str(celeryconfig.broker_transport_options["visibility_timeout"])))
    return judged(
        "time limits",
        f"a task waits up to {duration(settings().database_wait)} for the database, is killed after "
        f"{duration(hard)}, and is redelivered after {duration(redelivery)}",
        good=settings().database_wait < hard < redelivery,
        remedy="Set them in this order, or a slow task may run twice at the same time.",
    )


def _foreign() -> list[Finding]:
    from tasks.own_celery import describe_foreign, foreign_variables  # noqa: PLC0415 - it imports Celery

    if not (names := foreign_variables(settings().broker_url)):
        return []
    remedy = "Remove them from this environment, if they are not there for another application."
    return [Finding("Celery's variables", "warning", describe_foreign(names), remedy)]


def _misspelt() -> list[Finding]:
    known = [variable_of(field) for field in Settings.model_fields]
    known += [f"{name}_FILE" for name in FILE_VARIABLES]
    found = (name for name in os.environ if name.startswith(PREFIX) and not name.startswith(_TEST_PREFIX))
    return [
        Finding("the environment", "warning", f"{name} is not a setting of Crawlyard", _remedy(name, known))
        for name in sorted(set(found) - set(known))
    ]


def _remedy(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"Did you mean {close[0]}?" if close else "Remove it; the settings are listed below."


def _shown(value: object) -> str:
    match value:
        case timedelta() if value == NEVER:
            return "none"
        case timedelta():
            return f"{value.total_seconds():.10g} s"
        case str():
            return shown(value)
        case None:
            return "none"
        case dict() | frozenset():
            return ", ".join(sorted(value)) or "none"
        case _:
            return str(value)
