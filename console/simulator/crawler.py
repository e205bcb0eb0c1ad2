"""One simulated crawler: takes orders, works on them page by page, and tells how it went."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from console.simulator.counters import Tally
from console.simulator.gateway import Gateway, Link, Order
from console.simulator.gitlab import GitLab
from console.simulator.mishaps import Fate, Outcome

ITEMS_A_PAGE = 20
FOUND_A_FRAME = 10
_LAST_WORDS_SECONDS = 0.5
"""Between a crawler's awakening and its hearing that its connection is gone."""

_LISTED_SECONDS = 0.05
"""Between two looks whether what was discovered has been heard."""

Script = Iterator[float]
"""What somebody does over time: it yields how many seconds it waits before it goes on."""


class Mood(StrEnum):
    """What a crawler is like, in words for the screen."""

    AT_WORK = "at work"
    FROZEN = "frozen"
    DEAD = "died"
    GONE = "said goodbye"


@dataclass(frozen=True)
class World:
    """What all crawlers of a fleet share."""

    gateway: Gateway
    fate: Fate
    tally: Tally
    begin: Callable[[Script], None]
    """Lets a script run, from now on."""
    work_seconds: float
    """The mean of a job."""
    pages: int
    found: Sequence[Mapping[str, str]] = ()
    """What there is to discover, as jobs_discovered says it."""
    gitlab: GitLab | None = None
    """The one whose tokens may die; all others accept any."""


class Crawler:
    """
    Works on up to *capacity* jobs at once, until something befalls it.

    Its scripts look before each word whether the job is still its own: what was taken away
    in the meantime is dropped without a word.
    """

    def __init__(self, world: World, name: str, seed: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.mood = Mood.AT_WORK
        self.completed = 0
        self._world = world
        self._chance = random.Random(seed)  # noqa: S311 - a simulation
        self._work: dict[str, Order] = {}
        self._has_heard_expired = False
        self._link = world.gateway.connect(self)

    @property
    def link(self) -> Link:
        """Its connection, or its last one."""
        return self._link

    @property
    def beats(self) -> bool:
        """Whether it proves life when it is time."""
        return self.mood is Mood.AT_WORK

    def fences(self) -> list[str]:
        """What it works on."""
        return list(self._work)

    # What the gateway tells it

    def take(self, order: Order) -> None:
        """Begin to work on an order."""
        if self.mood is Mood.AT_WORK:
            self._world.tally.taken += 1
            self._work[order.fence] = order
            self._world.begin(self._explore(order) if order.entity_type == "areas" else self._crawl(order))

    def drop(self, fence: str) -> None:
        """Forget a job that was taken away; who is frozen does not hear it."""
        if self.mood is Mood.AT_WORK and fence in self._work:
            del self._work[fence]
            self._world.tally.dropped += 1

    def hear_expired(self) -> None:
        """Register anew, at once or after waking up."""
        self._has_heard_expired = True
        if self.mood is Mood.AT_WORK:
            self._start_anew()

    # What may befall it

    def die(self) -> None:
        """Never beat or speak again."""
        self._world.tally.died += 1
        self._end(Mood.DEAD)
        self._world.gateway.forget(self._link)

    def say_goodbye(self) -> None:
        """Leave in the middle of the work, but not without a word."""
        self._world.tally.left += 1
        self._end(Mood.GONE)
        self._world.gateway.leave(self._link)

    def freeze(self) -> None:
        """Stop everything until the connection has expired; then wake up, and know nothing of it."""
        self._world.tally.froze += 1
        self.mood = Mood.FROZEN
        self._world.begin(self._frozen())

    def _end(self, mood: Mood) -> None:
        self.mood = mood
        self._work.clear()

    # What it does

    def _crawl(self, order: Order) -> Script:
        outcome = self._world.fate.outcome(order)
        first = self._first_page(order)
        seconds = self._world.work_seconds * self._chance.uniform(0.4, 1.6) / (self._world.pages + 1)
        yield seconds / 2
        if not self._can_go_on(order):
            return
        self._say("job_started", order, entityType=order.entity_type, entityId=order.entity_id)
        for page in range(first, self._last_page(first, outcome) + 1):
            yield seconds
            if not self._can_go_on(order):
                return
            self._say("job_progress", order, **self._progress(order, page))
        yield seconds / 2
        if self._is_mine(order):
            del self._work[order.fence]
            self._tell_the_end(order, outcome)

    def _explore(self, order: Order) -> Script:
        """Tell what there is, some at a time, and end only when all of it was heard."""
        found, tally = self._world.found, self._world.tally
        seconds = self._world.work_seconds / (len(found) / FOUND_A_FRAME + 1)
        self._say("job_started", order, entityType=order.entity_type, entityId=order.entity_id)
        for first in range(0, len(found), FOUND_A_FRAME):
            yield seconds
            if not self._can_go_on(order):
                return
            page = [dict(thing) for thing in found[first : first + FOUND_A_FRAME]]
            tally.found.update((thing["namespace_path"], thing["job_type"]) for thing in page)
            self._say("jobs_discovered", order, discovered_jobs=page, discovery_summary=self._summary())
        while self._is_mine(order) and self._world.gateway.has_unheard(order.fence):
            yield _LISTED_SECONDS
        if self._is_mine(order):
            del self._work[order.fence]
            tally.completed += 1
            self.completed += 1
            self._say("job_completed", order, success=True, finalCounts={"areas": len(found)})

    def _summary(self) -> dict[str, int]:
        kinds = Counter(thing["job_type"] for thing in self._world.found)
        return {"total_groups": kinds["crawl_group"], "total_projects": kinds["crawl_project"]}

    def _first_page(self, order: Order) -> int:
        """Where a former attempt has left it, or the first."""
        reached = (order.resume_state or {}).get("currentPage", 0)
        self._world.tally.resumed += reached > 0
        return min(int(reached) + 1, self._world.pages)

    def _last_page(self, first: int, outcome: Outcome) -> int:
        """The last page before the end, which for a failure may be any."""
        if outcome is Outcome.COMPLETED:
            return self._world.pages
        return self._chance.randint(first - 1, self._world.pages)

    def _progress(self, order: Order, page: int) -> dict[str, Any]:
        processed, total = page * ITEMS_A_PAGE, self._world.pages * ITEMS_A_PAGE
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

    def _tell_the_end(self, order: Order, outcome: Outcome) -> None:
        tally = self._world.tally
        if outcome is Outcome.COMPLETED:
            tally.completed += 1
            self.completed += 1
            self._say("job_completed", order, success=True, finalCounts=self._counts(order))
        elif outcome is Outcome.UNSUCCESSFUL:
            tally.failed += 1
            self._say("job_completed", order, success=False, message="3 of 60 items could not be read")
        else:
            recoverable = outcome is Outcome.FAILED
            tally.failed += recoverable
            tally.failed_for_good += not recoverable
            mishap = self._world.fate.mishap(outcome)
            tally.tokens_said += mishap.tells_a_token
            self._say("job_failed", order, **mishap.told(order), isRecoverable=recoverable)

    def _counts(self, order: Order) -> dict[str, int]:
        return {order.entity_type: self._world.pages * ITEMS_A_PAGE}

    def _frozen(self) -> Script:
        while not self._has_heard_expired:
            yield 0.1
        self.mood = Mood.AT_WORK
        for order in self._work.values():
            self._say("job_progress", order, **self._progress(order, self._world.pages))
            self._say("job_completed", order, success=True, finalCounts=self._counts(order))
            self._world.tally.stale_said += 2
            self._world.tally.stale_fences.append(order.fence)
        self._work.clear()
        yield _LAST_WORDS_SECONDS
        self._world.tally.came_back += 1
        self._start_anew()

    def _start_anew(self) -> None:
        self._world.tally.dropped += len(self._work)
        self._work.clear()
        self._world.gateway.forget(self._link)
        self._link = self._world.gateway.connect(self)
        self._has_heard_expired = False

    def _can_go_on(self, order: Order) -> bool:
        """Whether it is its own still, and its token is accepted; one whose token has died is given up with a word."""
        if not self._is_mine(order):
            return False
        gitlab = self._world.gitlab
        if gitlab is None or order.gitlab_url != gitlab.url or gitlab.accepts(order.access_token):
            return True
        del self._work[order.fence]
        self._world.tally.tokens_died += 1
        self._say(
            "token_refresh_request", order, current_token_expired=True, error_details="401 Unauthorized"
        )
        return False

    def _is_mine(self, order: Order) -> bool:
        return self.mood is Mood.AT_WORK and order.fence in self._work

    def _say(self, kind: str, order: Order, **data: Any) -> None:
        self._world.gateway.say(self._link, kind, order.fence, **data)
