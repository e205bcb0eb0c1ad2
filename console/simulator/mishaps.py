"""Decides by seed and job how a simulated crawl ends, and what error it reports, in the words of real crawlers."""

import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from console.simulator.sessions import Order

_PERMANENT_SHARE = 0.03
_ALWAYS_SHARE = 0.015
_FIRST_ATTEMPT_SHARE = 0.08
_RANDOM_SHARE = 0.02


class Outcome(Enum):
    """How an attempt ends."""

    COMPLETED = auto()
    UNSUCCESSFUL = auto()
    """job_completed with success false, which means a recoverable failure."""
    FAILED = auto()
    FAILED_FOR_GOOD = auto()


@dataclass(frozen=True)
class FailureCase:
    """One way to fail. The texts may contain {token}, as careless libraries log it."""

    error_type: str
    error: str
    stack_trace: str | None = None
    context: dict[str, str] | None = None

    @property
    def contains_token(self) -> bool:
        """True if the text contains the crawler's access token."""
        return "{token}" in f"{self.error}{self.stack_trace}{self.context}"

    def as_data(self, order: Order) -> dict[str, Any]:
        """Return the data of a job_failed frame."""
        values = {
            "token": order.access_token or "",
            "url": order.gitlab_url or "",
            "host": (order.gitlab_url or "").partition("://")[2],
            "path": order.entity_type,
        }
        data: dict[str, Any] = {"errorType": self.error_type, "error": self.error.format_map(values)}
        if self.stack_trace:
            data["stackTrace"] = self.stack_trace.format_map(values)
        if self.context:
            data["context"] = {name: text.format_map(values) for name, text in self.context.items()}
        return data


RECOVERABLE = (
    FailureCase(
        "RateLimited", "429 Too Many Requests: retry after 37 s", context={"endpoint": "{url}/api/graphql"}
    ),
    FailureCase(
        "HTTPError",
        "GET {url}/api/v4/{path}?per_page=100&private_token={token}: 502 Bad Gateway",
        "HTTPError: 502 Bad Gateway\n    at request (/app/src/http.ts:88:13)\n    at crawl (/app/src/crawl.ts:214:5)",
    ),
    FailureCase(
        "ECONNRESET",
        "read ECONNRESET",
        "Error: read ECONNRESET\n    at TLSWrap.onStreamRead (node:internal:217)",
    ),
    FailureCase(
        "TimeoutError",
        "GraphQL query timed out after 30000 ms",
        context={"query": "query($after: String) {{ project {{ issues(after: $after) }} }}", "url": "{url}"},
    ),
    FailureCase(
        "GitError",
        "fatal: unable to access 'https://oauth2:{token}@{host}/group/project.git/': early EOF",
        context={"headers": "Authorization: Bearer {token}"},
    ),
)

PERMANENT = (
    FailureCase("NotFound", "404 Project Not Found"),
    FailureCase(
        "Forbidden",
        "403 Forbidden: insufficient_scope",
        context={"request": "{url}/api/graphql?access_token={token}"},
    ),
    FailureCase("SchemaError", "Field 'weight' doesn't exist on type 'Issue'"),
)


class OutcomePolicy:
    """Decides how attempts end, partly by job and partly at random."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(f"{seed} chance")  # noqa: S311 - a simulation
        self._have_failed: set[str] = set()

    def outcome(self, order: Order) -> Outcome:
        """Return how this attempt ends."""
        job = f"{order.entity_type} {order.entity_id}"
        lot = random.Random(f"{self._seed} {job}").random()  # noqa: S311
        if lot < _PERMANENT_SHARE:
            return Outcome.FAILED_FOR_GOOD
        lot -= _PERMANENT_SHARE
        if lot < _ALWAYS_SHARE:
            return Outcome.FAILED
        lot -= _ALWAYS_SHARE
        if lot < _FIRST_ATTEMPT_SHARE and job not in self._have_failed:
            self._have_failed.add(job)
            return Outcome.UNSUCCESSFUL if lot < _FIRST_ATTEMPT_SHARE / 5 else Outcome.FAILED
        return Outcome.FAILED if self._rng.random() < _RANDOM_SHARE else Outcome.COMPLETED

    def failure(self, outcome: Outcome) -> FailureCase:
        """Choose an error."""
        return self._rng.choice(PERMANENT if outcome is Outcome.FAILED_FOR_GOOD else RECOVERABLE)
