"""Scenarios: a message to a task, and the state in which it arrives."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery.states import REJECTED

from support.worlds.world import World

SetUp = Callable[[World], dict[str, Any]]
"""Prepares the world; returns the payload to deliver."""

LONG = {
    "CRAWLYARD_CONNECTION_TIMEOUT": "900",
    "CRAWLYARD_HEARTBEAT_INTERVAL": "30",
    "CRAWLYARD_SWEEP_INTERVAL": "10",
    "CRAWLYARD_ABSENCE_GRACE": "600",
    "CRAWLYARD_STALL_TIMEOUT": "36000",
    "CRAWLYARD_START_TIMEOUT": "3000",
    "CRAWLYARD_RETRY_DELAY": "300",
    "CRAWLYARD_DATABASE_WAIT": "60",
}
"""So long that nothing becomes old between two runs unless a scenario ages it."""

SHORT_WAITS = {"tasks.runtime.retry._LOST_STEP_S": 0.002, "tasks.runtime.retry._CONTENDED_STEP_S": 0.002}
"""The server is up, so a retry need not wait."""

MESSAGE = "01K0000000000000000MESSAGE"
"""The id of the message in each delivery."""


USED: list[str] = []
"""Refresh tokens that were sent to GitLab in this run: it revokes the family of one that comes twice."""


@dataclass(frozen=True)
class Scenario:
    """One way through a task."""

    name: str
    task: str
    set_up: SetUp
    settings: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    """Constants of the product by dotted name, made small enough to be reached."""
    is_piecemeal: bool = False
    """True if a repeated delivery processes the next chunk: then only the final state is compared."""
    is_doubtful: bool = False
    """True if a killed process may leave another state, since it is unknown whether GitLab got the call."""

    def prepare(self, world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Prepare the world; return the payload as decoded from a message."""
        for name, value in (LONG | self.settings).items():
            monkeypatch.setenv(name, value)
        world.reload_settings()
        payload = self.set_up(world)
        for name, value in (SHORT_WAITS | self.constants).items():
            monkeypatch.setattr(name, value)
        world.published.messages.clear()
        long_ago(world)
        return dict(json.loads(json.dumps(payload, default=str)))

    def deliver(self, world: World, payload: dict[str, Any]) -> None:
        """Deliver the message, again and again while the task requeues it."""
        for _ in range(100):
            if world.deliver(self.task, MESSAGE, **payload) != REJECTED:
                return
        pytest.fail(f"{self.name}: the message is requeued for ever")


SCENARIOS: list[Scenario] = []


def scenario(task: str, **how: Any) -> Callable[[SetUp], SetUp]:
    """Register a set-up as a scenario of *task*, called as the function is."""

    def register(set_up: SetUp) -> SetUp:
        SCENARIOS.append(Scenario(set_up.__name__, task, set_up, **how))
        return set_up

    return register


def long_ago(world: World) -> None:
    """Let time pass, as before a redelivery, so that periodic tasks are due again."""
    world.in_one_transaction(
        [
            "UPDATE periodic_ring SET rung_at = rung_at - interval '1 day'",
            "UPDATE credential_refresh SET started_at = started_at - interval '1 day'",
        ]
    )
