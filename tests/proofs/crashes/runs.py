"""One scenario, run again and again in the same world: undisturbed, and killed at each of its points."""

from collections import Counter
from collections.abc import Container, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest

from persistence.settings import settings
from proofs.crashes.canonical import Copy, Picture, ids_in, picture
from proofs.crashes.scenario import MESSAGE, USED, Scenario, long_ago
from support.crashes import Death, Point, at_each_point, crashed
from support.worlds.world import World
from tasks.contract.payloads import CONTRACT

BEAT = ("connections.expire_dead", "upkeep.reconcile", "upkeep.clean_up", "jobs.assign")
"""The tasks that beat publishes, which find every row whose message was lost."""

_BEATS = 3
_MAX_ROUNDS = 50


def _without_messages(seen: Picture) -> Picture:
    kept = {row: count for row, count in seen.rows.items() if not row.startswith("handled_message ")}
    return Picture(Counter(kept), seen.messages)


@dataclass
class Runs:
    """A scenario in its world, which is the same before each run."""

    scenario: Scenario
    world: World
    payload: dict[str, Any]
    start: Copy
    kills: dict[Death, int] = field(default_factory=lambda: dict.fromkeys(Death, 0))
    at_commits: int = 0
    """How many kills were at a COMMIT."""

    @classmethod
    @contextmanager
    def of(cls, scenario: Scenario, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator["Runs"]:
        """Prepare the world and copy it."""
        payload = scenario.prepare(world, monkeypatch)
        with closing(Copy(settings().session_url)) as start:
            yield cls(scenario, world, payload, start)

    def begin(self) -> None:
        """Restore the world to its state before the first run."""
        self.start.restore()
        self.world.published.messages.clear()
        USED.clear()

    def deliver(self) -> None:
        """Deliver the message until it is acknowledged."""
        self.scenario.deliver(self.world, self.payload)

    def take_picture(self) -> Picture:
        """Return the picture of the present state."""
        return picture(self.start.dump(), self.world.published.messages, self._known)

    def take_final_picture(self) -> Picture:
        """Return the picture of the present state without message ids, whose number may differ."""
        return _without_messages(self.take_picture())

    def does_something(self) -> bool:
        """Return True if an undisturbed delivery changes a row or publishes a task."""
        before = picture(self.start.tables, [], self._known)
        return _without_messages(self.undisturbed) != _without_messages(before)

    @cached_property
    def _known(self) -> set[str]:
        return ids_in(self.start.tables) | ids_in(self.payload) | {MESSAGE}

    @cached_property
    def points(self) -> list[Point]:
        """The points that an undisturbed delivery passes."""
        self.begin()
        with at_each_point() as passed:
            self.deliver()
        return passed

    @property
    def first_commit(self) -> int:
        """The number of the first COMMIT."""
        return next(point.number for point in self.points if point.is_commit)

    @cached_property
    def undisturbed(self) -> Picture:
        """The picture after an undisturbed delivery."""
        assert self.points
        return self.take_picture()

    @cached_property
    def undisturbed_final(self) -> Picture:
        """The picture after an undisturbed delivery, once all published tasks and those of beat have run."""
        self.begin()
        self.deliver()
        self.settle()
        return self.take_final_picture()

    def settle(self) -> None:
        """Run all published tasks, and those of beat, until none is left."""
        for _ in range(_BEATS):
            long_ago(self.world)
            self.world.published.messages += [(task, {}) for task in BEAT]
            self.deliver_published()

    def deliver_published(self, tasks: Container[str] = CONTRACT) -> None:
        """Run the published tasks of these names, and what they publish; drop the others."""
        for _ in range(_MAX_ROUNDS):
            messages, self.world.published.messages = self.world.published.messages, []
            if not messages:
                return
            for task, arguments in messages:
                if task in tasks:
                    self.world.deliver(task, **arguments)
        pytest.fail("tasks publish each other without end")

    def kill(self, at: int, death: Death) -> list[str]:
        """
        Deliver with a death at a point, then redeliver; return what is wrong afterwards.

        If only the session died, the task has continued by itself, and must be right before the redelivery too.
        """
        expected = self.doubtful if self._is_doubtful(at, death) else self.undisturbed
        self.begin()
        died_at = crashed(self.deliver, at, death)
        if died_at is None:
            return [f"there is no point {at}"]
        self.kills[death] += 1
        self.at_commits += died_at.is_commit
        does_more = self._does_more(at, death)
        faults = []
        if not does_more and not death.is_of_process:
            faults += self._compare(expected, died_at, "by itself")
        long_ago(self.world)
        self.deliver()
        if not does_more:
            faults += self._compare(expected, died_at, "delivered again")
        if not faults and (does_more or expected.messages - self.take_picture().messages):
            self.settle()
            end = self.undisturbed_final if expected is self.undisturbed else self.doubtful_final
            faults += [
                f"in the end: {difference}" for difference in end.differences(self.take_final_picture())
            ]
        if len(USED) > 1:
            faults.append("GitLab was sent a refresh token twice")
        return [f"{death}, {died_at}: {fault}" for fault in faults]

    def _compare(self, expected: Picture, died_at: Point, when: str) -> list[str]:
        now = self.take_picture()
        faults = expected.differences(now)
        if not died_at.is_commit:
            faults += [
                f"not published, although every COMMIT was answered: {message}"
                for message in expected.messages - now.messages
            ]
        return [f"{when}: {fault}" for fault in faults]

    def _does_more(self, at: int, death: Death) -> bool:
        """Return True if a second chunk commits before the message is processed."""
        has_committed = at > self.first_commit or (at == self.first_commit and not death.is_before)
        return self.scenario.is_piecemeal and (has_committed or not death.is_of_process)

    def _is_doubtful(self, number: int, death: Death) -> bool:
        """Return True if the process died between the COMMIT before its call to GitLab and the one after it."""
        if not self.scenario.is_doubtful or not death.is_of_process:
            return False
        before, after = (point.number for point in self.points if point.is_commit)
        return before < number < after or (number, death) in (
            (before, Death.PROCESS_AFTER),
            (after, Death.PROCESS_BEFORE),
        )

    @cached_property
    def doubtful(self) -> Picture:
        """The picture if it is unknown whether GitLab got the call: the process was killed before it."""
        self._leave_in_doubt()
        return self.take_picture()

    @cached_property
    def doubtful_final(self) -> Picture:
        """The doubtful picture, once all published tasks and those of beat have run."""
        self._leave_in_doubt()
        self.settle()
        return self.take_final_picture()

    def _leave_in_doubt(self) -> None:
        self.begin()
        crashed(self.deliver, self.first_commit, Death.PROCESS_AFTER)
        long_ago(self.world)
        self.deliver()
