"""What goes wrong with a simulated crawl: decided by the seed and the job, told as real crawlers tell it."""

import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from console.simulator.gateway import Order

_FOR_GOOD = 0.03
_EVERY_TIME = 0.015
_THE_FIRST_TIME = 0.08
_BY_CHANCE = 0.02


class Outcome(Enum):
    """How an attempt ends."""

    COMPLETED = auto()
    UNSUCCESSFUL = auto()
    """job_completed with success false: a recoverable failure in other words."""
    FAILED = auto()
    FAILED_FOR_GOOD = auto()


@dataclass(frozen=True)
class Mishap:
    """One way to fail. The texts may hold {token}, as those of careless libraries do."""

    error_type: str
    error: str
    stack_trace: str | None = None
    context: dict[str, str] | None = None

    @property
    def tells_a_token(self) -> bool:
        """Whether the crawler's access token is in it."""
        return "{token}" in f"{self.error}{self.stack_trace}{self.context}"

    def told(self, order: Order) -> dict[str, Any]:
        """As data of a job_failed frame."""
        values = {
            "token": order.access_token or "",
            "url": order.gitlab_url or "",
            "host": (order.gitlab_url or "").partition("://")[2],
            "path": order.entity_type,
        }
        told: dict[str, Any] = {"errorType": self.error_type, "error": self.error.format_map(values)}
        if self.stack_trace:
            told["stackTrace"] = self.stack_trace.format_map(values)
        if self.context:
            told["context"] = {name: text.format_map(values) for name, text in self.context.items()}
        return told


RECOVERABLE = (
    Mishap(
        "RateLimited", "429 Too Many Requests: retry after 37 s", context={"endpoint": "{url}/api/graphql"}
    ),
    Mishap(
        "HTTPError",
        "GET {url}/api/v4/{path}?per_page=100&private_token={token}: 502 Bad Gateway",
        "HTTPError: 502 Bad Gateway\n    at request (/app/src/http.ts:88:13)\n    at crawl (/app/src/crawl.ts:214:5)",
    ),
    Mishap(
        "ECONNRESET",
        "read ECONNRESET",
        "Error: read ECONNRESET\n    at TLSWrap.onStreamRead (node:internal:217)",
    ),
    Mishap(
        "TimeoutError",
        "GraphQL query timed out after 30000 ms",
        context={"query": "query($after: String) {{ project {{ issues(after: $after) }} }}", "url": "{url}"},
    ),
    Mishap(
        "GitError",
        "fatal: unable to access 'https://oauth2:{token}@{host}/group/project.git/': early EOF",
        context={"headers": "Authorization: Bearer {token}"},
    ),
)

FOR_GOOD = (
    Mishap("NotFound", "404 Project Not Found"),
    Mishap(
        "Forbidden",
        "403 Forbidden: insufficient_scope",
        context={"request": "{url}/api/graphql?access_token={token}"},
    ),
    Mishap("SchemaError", "Field 'weight' doesn't exist on type 'Issue'"),
)


class Fate:
    """Decides how attempts end: much of it is the job's own, some of it is chance."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chance = random.Random(f"{seed} chance")  # noqa: S311 - a simulation
        self._have_failed: set[str] = set()

    def outcome(self, order: Order) -> Outcome:
        """How this attempt ends."""
        job = f"{order.entity_type} {order.entity_id}"
        lot = random.Random(f"{self._seed} {job}").random()  # noqa: S311
        if lot < _FOR_GOOD:
            return Outcome.FAILED_FOR_GOOD
        lot -= _FOR_GOOD
        if lot < _EVERY_TIME:
            return Outcome.FAILED
        lot -= _EVERY_TIME
        if lot < _THE_FIRST_TIME and job not in self._have_failed:
            self._have_failed.add(job)
            return Outcome.UNSUCCESSFUL if lot < _THE_FIRST_TIME / 5 else Outcome.FAILED
        return Outcome.FAILED if self._chance.random() < _BY_CHANCE else Outcome.COMPLETED

    def mishap(self, outcome: Outcome) -> Mishap:
        """What went wrong."""
        return self._chance.choice(FOR_GOOD if outcome is Outcome.FAILED_FOR_GOOD else RECOVERABLE)
