"""The `crawlyard` command, run in the test's own process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CommandOutput:
    """The output and exit code of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, parsed as JSON."""
        return json.loads(self.out)


Run = Callable[..., CommandOutput]

Sql = Callable[..., list[Any]]
"""Runs one statement, commits it, and returns its rows."""

SECRET = "hush-hush"
"""A secret in the settings; no output may show it."""
