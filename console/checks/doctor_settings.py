"""The doctor's look at the settings: each with its value and source, and where they disagree."""

import os
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches

from console.checks.finding import Finding, judged
from console.output.screen import duration
from console.output.urls import shown
from persistence.settings import FILE_VARIABLES, PREFIX, Settings, settings, variable_of

_OF_TESTS = f"{PREFIX}TEST_"


@dataclass(frozen=True)
class Setting:
    """One setting, as it may be seen."""

    name: str
    value: str
    source: str
    meaning: str


def all_settings() -> list[Setting]:
    """Every setting, by the name of its variable; no passwords."""
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


def look_at_settings() -> list[Finding]:
    """What can be said of the settings without asking anybody."""
    return [_outages(), _time_limits(), *_misspelt()]


def _outages() -> Finding:
    """Wrong ones are refused at the start: this shows how much there is to spare."""
    gap, sweeps = settings().outage_gap, 2 * settings().sweep_interval
    return judged(
        "an outage of ours",
        f"assumed after {duration(gap)} without a sweep; two sweeps take {duration(sweeps)}",
        good=gap > sweeps,
        remedy=f"Raise {PREFIX}CONNECTION_TIMEOUT, or every sweep looks like an outage.",
    )


def _time_limits() -> Finding:
    import celeryconfig  # noqa: PLC0415 - it exits where settings are wrong, and they are read before

    hard = timedelta(seconds=celeryconfig.task_time_limit)
    again = timedelta(seconds=float(str(celeryconfig.broker_transport_options["visibility_timeout"])))
    return judged(
        "time limits",
        f"the database is waited for {duration(settings().database_wait)}, a task ends after {duration(hard)}, "
        f"its message comes again after {duration(again)}",
        good=settings().database_wait < hard < again,
        remedy="Set them in this order, or a slow unit runs twice at the same time.",
    )


def _misspelt() -> list[Finding]:
    known = [variable_of(field) for field in Settings.model_fields]
    known += [f"{name}_FILE" for name in FILE_VARIABLES]
    strange = (name for name in os.environ if name.startswith(PREFIX) and not name.startswith(_OF_TESTS))
    return [
        Finding("the environment", "warning", f"{name} is no setting of Crawlyard", _remedy(name, known))
        for name in sorted(set(strange) - set(known))
    ]


def _remedy(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"Did you mean {close[0]}?" if close else "Remove it; the settings are listed below."


def _shown(value: object) -> str:
    match value:
        case timedelta():
            return f"{value.total_seconds():.10g} s"
        case str():
            return shown(value)
        case None:
            return "none"
        case dict():
            return ", ".join(value) or "none"
        case _:
            return str(value)
