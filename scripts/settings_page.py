"""Prints docs/settings.md, made from the Settings object: `make docs` writes it, tests/packaging compares it."""

import sys
from datetime import timedelta
from typing import Any

from persistence.setting_types import Bounds
from persistence.settings import FILE_VARIABLES, Settings, variable_of

INTRODUCTION = """\
# Settings

<!-- Made from persistence/settings.py and persistence/gateway_settings.py by `make docs`. Do not edit. -->

All settings are environment variables; an empty variable counts as not set. A wrong setting ends the start with one
line that names it. `crawlyard doctor` shows the value of each setting and whether it comes from the environment, a
file or the default.

Durations are in seconds, with a fraction if needed, within the bounds that the table shows; `none` means never.
`CRAWLYARD_CONNECTION_TIMEOUT` must exceed twice
`CRAWLYARD_HEARTBEAT_INTERVAL` plus twice `CRAWLYARD_SWEEP_INTERVAL`.
"""

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


def page() -> str:
    """The whole page."""
    rows = "\n".join(_row(field) for field in Settings.model_fields)
    files = "\n".join(f"- `{name}_FILE`" for name in FILE_VARIABLES)
    return (
        f"{INTRODUCTION}\n| variable | default | bounds | meaning |\n|---|---|---|---|\n{rows}\n\n"
        f"A secret may be in a file instead, as container secrets are. These variables name such files:\n\n{files}\n"
    )


def _row(field: str) -> str:
    info = Settings.model_fields[field]
    default = "required" if info.is_required() else _written(info.default)
    bounds = next((str(one) for one in info.metadata if isinstance(one, Bounds)), "")
    return f"| `{variable_of(field)}` | {default} | {bounds} | {info.description} |"


def _written(default: Any) -> str:
    """A default as one writes it in the environment; long durations also in hours or days."""
    match default:
        case timedelta():
            return f"{default.total_seconds():.10g}{_in_words(default)}"
        case None | {}:
            return "none"
        case frozenset():
            return ", ".join(sorted(default)) or "none"
        case bool():
            return str(int(default))
        case _:
            return str(default)


def _in_words(duration: timedelta) -> str:
    for unit, name in ((_DAY, "day"), (_HOUR, "hour")):
        if duration >= unit and not duration % unit:
            number = duration // unit
            return f" ({number} {name}{'s' * (number > 1)})"
    return ""


if __name__ == "__main__":
    sys.stdout.write(page())
