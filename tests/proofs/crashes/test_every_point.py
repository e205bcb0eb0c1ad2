"""Each task, killed at any point and delivered again, leaves what it leaves undisturbed."""

from typing import Any
from zlib import crc32

import pytest

from persistence.messages.processed import ProcessedMessages
from persistence.unit_of_work import UnitOfWork
from proofs.crashes import commands, connections, frames, maintenance, orders  # noqa: F401 - they register
from proofs.crashes.runs import Runs
from proofs.crashes.scenario import SCENARIOS, Scenario
from support.crashes import Death
from support.depth import deep
from support.worlds.world import World
from tasks.contract.payloads import CONTRACT

pytestmark = pytest.mark.timeout(600)


def deaths(runs: Runs) -> list[tuple[int, Death]]:
    """Return every death at every point; in the short form all at the last COMMIT, and one at another point."""
    numbers = [point.number for point in runs.points]
    if deep():
        return [(number, death) for number in numbers for death in Death]
    last = max(point.number for point in runs.points if point.is_commit)
    turn = crc32(runs.scenario.name.encode())
    elsewhere = (numbers[turn % len(numbers)], list(Death)[turn % len(Death)])
    return sorted({*((last, death) for death in Death), elsewhere})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: f"{s.task}-{s.name}")
def test_a_kill_at_any_point_leads_to_the_same_end_state(
    scenario: Scenario, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, events, errors and rejections are those of an undisturbed delivery; tasks may be published more often."""
    with Runs.of(scenario, world, monkeypatch) as runs:
        assert runs.does_something()
        chosen = deaths(runs)
        faults = [fault for point, death in chosen for fault in runs.kill(point, death)]
        if scenario.is_doubtful:
            assert any('"NETWORK_ERROR"' in row for row in runs.doubtful.rows)

    assert faults == []
    assert sum(runs.kills.values()) == len(chosen)
    assert min(runs.kills.values()) > 0
    assert runs.at_commits >= len(Death)


def test_every_task_has_a_scenario() -> None:
    """Every task has a scenario, and every scenario an existing task."""
    assert {scenario.task for scenario in SCENARIOS} == set(CONTRACT)
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


def named(name: str) -> Scenario:
    """Return the scenario of this name."""
    (found,) = (scenario for scenario in SCENARIOS if scenario.name == name)
    return found


def first_commit(runs: Runs) -> int:
    """Return the number of the COMMIT that applies the message; what was refused of it is stored after that."""
    return next(point.number for point in runs.points if point.is_commit)


def test_a_task_that_is_not_idempotent_is_detected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If messages are not marked as processed, a repeated delivery logs every error twice."""
    monkeypatch.setattr(ProcessedMessages, "mark_processed", lambda *_: True)
    with Runs.of(named("errors"), world, monkeypatch) as runs:
        commit = first_commit(runs)
        found = {death: runs.kill(commit, death) for death in Death}

    twice = {death: sum("again: + job_error_log" in fault for fault in found[death]) for death in Death}
    assert twice == {
        Death.PROCESS_BEFORE: 0,
        Death.PROCESS_AFTER: 3,
        Death.SESSION_BEFORE: 3,
        Death.ANSWER_LOST: 6,
    }
    assert found[Death.PROCESS_BEFORE] == []


def test_a_unit_that_commits_midway_is_detected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything after that COMMIT is lost with its process, since the message is marked as processed already."""
    mark = ProcessedMessages.mark_processed

    def mark_and_commit(processed: ProcessedMessages, message_id: str) -> bool:
        is_first = mark(processed, message_id)
        processed._session.commit()
        return is_first

    monkeypatch.setattr(ProcessedMessages, "mark_processed", mark_and_commit)
    with Runs.of(named("errors"), world, monkeypatch) as runs:
        _, of_the_unit, *_ = (point.number for point in runs.points if point.is_commit)
        faults = runs.kill(of_the_unit, Death.PROCESS_BEFORE)

    assert sum("again: - job_error_log" in fault for fault in faults) == 3


def test_a_missing_publish_is_detected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that is run again must publish again."""
    publish, published = UnitOfWork.publish, []

    def publish_once(uow: UnitOfWork, task: str, **arguments: Any) -> None:
        if not published:
            publish(uow, task, **arguments)
        published.append(task)

    with Runs.of(named("registration"), world, monkeypatch) as runs:
        assert runs.undisturbed.messages
        monkeypatch.setattr(UnitOfWork, "publish", publish_once)
        faults = runs.kill(runs.points[-1].number - 1, Death.SESSION_BEFORE)

    assert len(faults) == 2
    assert all("not published" in fault and "jobs.assign" in fault for fault in faults)
