"""The `crawlyard` command, run in the test's own process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CommandOutput:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read."""
        return json.loads(self.out)


Run = Callable[..., CommandOutput]

Sql = Callable[..., list[Any]]
"""Runs one statement, commits it, and returns its rows."""

SECRET = "hush-hush"
"""In settings, and in nothing that is shown."""
