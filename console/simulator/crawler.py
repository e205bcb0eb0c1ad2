"""One simulated crawler: accepts orders, works on them page by page, and sends frames about them."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from console.simulator.counters import FleetCounts
from console.simulator.gitlab import GitLab
from console.simulator.mishaps import Outcome, OutcomePolicy
from console.simulator.sessions import Order, Sessions

ITEMS_PER_PAGE = 20
FOUND_PER_FRAME = 10
_WAKE_DELAY_SECONDS = 0.5
"""Time between a crawler's waking up and its learning that its connection has expired."""

_POLL_SECONDS = 0.05
"""Between two checks whether all discovery frames were applied."""

Script = Iterator[float]
"""A course of action over time: it yields the seconds to wait before its next step."""


class CrawlerState(StrEnum):
    """The state of a crawler, as the demo shows it."""

    AT_WORK = "at work"
    FROZEN = "frozen"
    DEAD = "died"
    GONE = "disconnected"


@dataclass(frozen=True)
class FleetContext:
    """What all crawlers of a fleet share."""

    sessions: Sessions
    outcomes: OutcomePolicy
    counts: FleetCounts
    begin: Callable[[Script], None]
    """Starts a script."""
    work_seconds: float
    """The mean duration of a job."""
    pages: int
    found: Sequence[Mapping[str, str]] = ()
    """What a discovery finds, as items of jobs_discovered."""
    gitlab: GitLab | None = None
    """The instance whose tokens may expire; all others accept any token."""


class Crawler:
    """
    Works on up to *capacity* jobs at once, until it dies, freezes or disconnects.

    Before each frame, a script checks that the attempt was not revoked; if it was, it stops and sends nothing.
    """

    def __init__(self, context: FleetContext, name: str, seed: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.state = CrawlerState.AT_WORK
        self.completed = 0
        self._context = context
        self._rng = random.Random(seed)  # noqa: S311 - a simulation
        self._work: dict[str, Order] = {}
        self._session = context.sessions.open(self)

    @property
    def is_connected(self) -> bool:
        """True if its session has a link, as far as it knows."""
        return self._session.is_open

    def fences(self) -> list[str]:
        """The fences of the attempts that it works on."""
        return list(self._work)

    # Called by its session

    def accept(self, order: Order) -> None:
        """Start to work on an order."""
        if self.state is CrawlerState.AT_WORK:
            self._context.counts.taken += 1
            self._work[order.fence] = order
            self._context.begin(self._discover(order) if order.entity_type == "areas" else self._crawl(order))

    def revoke(self, fence: str) -> None:
        """Stop working on a revoked order; a frozen crawler does not react."""
        if self.state is CrawlerState.AT_WORK and fence in self._work:
            del self._work[fence]
            self._context.counts.dropped += 1

    def keep_only(self, fences: Collection[str]) -> None:
        """Stop working on all orders but these: others have them."""
        for fence in self._work.keys() - set(fences):
            del self._work[fence]
            self._context.counts.dropped += 1

    def on_undelivered(self, fence: str) -> None:
        """Note an end or a discovery that no worker will see."""
        self._context.counts.undelivered += 1
        self._context.counts.undelivered_fences.add(fence)

    # Incidents

    def die(self) -> None:
        """Never send anything again."""
        self._context.counts.died += 1
        self._context.counts.gone_connections.add(self._session.connection_id)
        self._end(CrawlerState.DEAD)
        self._session.die()

    def disconnect(self) -> None:
        """Disconnect in the middle of the work."""
        self._context.counts.left += 1
        self._end(CrawlerState.GONE)
        self._session.leave()

    def freeze(self) -> None:
        """Do nothing until the connection was given up; then wake up without knowing that."""
        self._context.counts.froze += 1
        self._context.counts.gone_connections.add(self._session.connection_id)
        self.state = CrawlerState.FROZEN
        self._session.freeze()
        self._context.begin(self._frozen())

    def _end(self, state: CrawlerState) -> None:
        self.state = state
        self._work.clear()

    # Scripts

    def _crawl(self, order: Order) -> Script:
        outcome = self._context.outcomes.outcome(order)
        first = self._first_page(order)
        seconds = self._context.work_seconds * self._rng.uniform(0.4, 1.6) / (self._context.pages + 1)
        yield seconds / 2
        if not self._can_go_on(order):
            return
        self._send("job_started", order, entityType=order.entity_type, entityId=order.entity_id)
        for page in range(first, self._last_page(first, outcome) + 1):
            yield seconds
            if not self._can_go_on(order):
                return
            self._send("job_progress", order, **self._progress(order, page))
        yield seconds / 2
        if self._owns(order):
            del self._work[order.fence]
            self._report_end(order, outcome)

    def _discover(self, order: Order) -> Script:
        """Send what there is to discover, a page at a time, and complete only when all of it was applied."""
        found, counts = self._context.found, self._context.counts
        seconds = self._context.work_seconds / (len(found) / FOUND_PER_FRAME + 1)
        self._send("job_started", order, entityType=order.entity_type, entityId=order.entity_id)
        for first in range(0, len(found), FOUND_PER_FRAME):
            yield seconds
            if not self._can_go_on(order):
                return
            page = [dict(item) for item in found[first : first + FOUND_PER_FRAME]]
            counts.found.update((item["namespace_path"], item["job_type"]) for item in page)
            self._send("jobs_discovered", order, discovered_jobs=page, discovery_summary=self._summary())
        while self._owns(order) and self._session.has_unapplied(order.fence):
            yield _POLL_SECONDS
        if self._owns(order):
            del self._work[order.fence]
            counts.completed += 1
            self.completed += 1
            self._send("job_completed", order, success=True, finalCounts={"areas": len(found)})

    def _summary(self) -> dict[str, int]:
        kinds = Counter(item["job_type"] for item in self._context.found)
        return {"total_groups": kinds["crawl_group"], "total_projects": kinds["crawl_project"]}

    def _first_page(self, order: Order) -> int:
        """Return the page after the last one of the former attempt, or the first page."""
        reached = (order.resume_state or {}).get("currentPage", 0)
        self._context.counts.resumed += reached > 0
        return min(int(reached) + 1, self._context.pages)

    def _last_page(self, first: int, outcome: Outcome) -> int:
        """Return the last page before the attempt ends; a failure may end it after any page."""
        if outcome is Outcome.COMPLETED:
            return self._context.pages
        return self._rng.randint(first - 1, self._context.pages)

    def _progress(self, order: Order, page: int) -> dict[str, Any]:
        processed, total = page * ITEMS_PER_PAGE, self._context.pages * ITEMS_PER_PAGE
        return {
            "stage": "fetching",
            "entityType": order.entity_type,
            "processed": processed,
            "total": total,
            "itemCounts": {order.entity_type: processed},
            "currentPage": page,
            "resumeState": {
                "currentPage": page,
                "lastEntityId": str(processed),
                "entityType": order.entity_type,
            },
        }

    def _report_end(self, order: Order, outcome: Outcome) -> None:
        counts = self._context.counts
        if outcome is Outcome.COMPLETED:
            counts.completed += 1
            self.completed += 1
            self._send("job_completed", order, success=True, finalCounts=self._counts(order))
        elif outcome is Outcome.UNSUCCESSFUL:
            counts.failed += 1
            self._send("job_completed", order, success=False, message="3 of 60 items could not be read")
        else:
            recoverable = outcome is Outcome.FAILED
            counts.failed += recoverable
            counts.failed_for_good += not recoverable
            failure = self._context.outcomes.failure(outcome)
            counts.tokens_said += failure.contains_token
            self._send("job_failed", order, **failure.as_data(order), isRecoverable=recoverable)

    def _counts(self, order: Order) -> dict[str, int]:
        return {order.entity_type: self._context.pages * ITEMS_PER_PAGE}

    def _frozen(self) -> Script:
        while not self._session.is_given_up:
            yield 0.1
        self.state = CrawlerState.AT_WORK
        for order in self._work.values():
            self._send("job_progress", order, **self._progress(order, self._context.pages))
            self._send("job_completed", order, success=True, finalCounts=self._counts(order))
            self._context.counts.stale_said += 2
            self._context.counts.stale_fences.append(order.fence)
        self._work.clear()
        yield _WAKE_DELAY_SECONDS
        self._context.counts.came_back += 1
        self._session.wake_up()

    def _can_go_on(self, order: Order) -> bool:
        """Return true if the attempt was not revoked and its token is valid; if the token expired, end the attempt."""
        if not self._owns(order):
            return False
        gitlab = self._context.gitlab
        if gitlab is None or order.gitlab_url != gitlab.url or gitlab.accepts(order.access_token):
            return True
        del self._work[order.fence]
        self._context.counts.tokens_died += 1
        self._send(
            "token_refresh_request", order, current_token_expired=True, error_details="401 Unauthorized"
        )
        return False

    def _owns(self, order: Order) -> bool:
        return self.state is CrawlerState.AT_WORK and order.fence in self._work

    def _send(self, kind: str, order: Order, **data: Any) -> None:
        self._session.send(kind, order.fence, **data)
