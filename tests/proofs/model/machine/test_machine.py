"""
Messages in any order leave the database as docs/contract.md states it.

A machine drives the tasks and a small model of the contract, and compares them after every step. The runs
of a test must also reach every transition in `Reached`.
"""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import get_state_machine_test

from persistence.fleet import silence
from proofs.model.clock import GOODBYE_MARGIN, SETTINGS, TICK_S
from proofs.model.machine.machine import Machine
from proofs.model.machine.product import SystemUnderTest
from proofs.model.reached import Reached
from support.depth import deep
from support.worlds.world import Published, World

STEPS = 50

RUNS = 25 if deep() else 12
"""Of one seed. Hypothesis varies what it did before, so more seeds reach more transitions than more runs."""

MOST_SEEDS = 12
"""Of each test, which continues until enough transitions were reached."""

UNREACHED = 0 if deep() else len(Reached) // 4
"""The short form may leave a quarter of the transitions to the full one: the rarest ones take four seeds."""

SEEDS, DEEPER = 3, 20
"""The deep tests run at least this many seeds, and at most this many times as many."""

HALVES = 2 if deep() else 1
"""The deep tests are split into two, so that two processes share them."""


@pytest.fixture
def system(database: str, published: Published, monkeypatch: pytest.MonkeyPatch) -> Iterator[SystemUnderTest]:
    """The product, with every duration halfway between two ticks of the model's time."""
    monkeypatch.setattr(silence, "GOODBYE_MARGIN", timedelta(seconds=GOODBYE_MARGIN * TICK_S))
    for name, seconds in SETTINGS.items():
        monkeypatch.setenv(name, str(seconds))
    world = World(published)
    world.reload_settings()
    with psycopg.connect(database, autocommit=True) as connection:
        yield SystemUnderTest(world, connection)
    world.reload_settings()


@pytest.mark.long
@pytest.mark.parametrize("half", range(HALVES))
@pytest.mark.timeout(4 * 3600 if deep() else 1200)
def test_the_product_matches_the_model(system: SystemUnderTest, half: int) -> None:
    """Many runs of fifty steps match the model, and reach every transition; in the short form most of them."""
    reached: Counter[Reached] = Counter()
    for count, chosen in enumerate(_seeds(half), start=1):
        print(f"Hypothesis's seed is {chosen}.")  # noqa: T201 - pytest shows it if the test fails
        run_machine(system, reached, chosen)
        missing = [what for what in Reached if not reached[what]]
        if count >= (SEEDS * DEEPER if deep() else 1) and len(missing) <= UNREACHED:
            break
    print(*(f"{reached[what]:6} {what}" for what in Reached), sep="\n")  # noqa: T201
    assert len(missing) <= UNREACHED, missing


def _seeds(half: int) -> list[int]:
    """Return the same seeds each time; in deep tests, others each time."""
    if deep():
        return [int.from_bytes(os.urandom(4)) for _ in range(MOST_SEEDS * DEEPER)]
    return [half * MOST_SEEDS + place for place in range(MOST_SEEDS)]


def run_machine(system: SystemUnderTest, reached: Counter[Reached], chosen: int) -> None:
    """Run the machine some times under one seed."""
    run = get_state_machine_test(
        lambda: Machine(system, reached),
        settings=settings(
            stateful_step_count=STEPS,
            max_examples=RUNS,
            deadline=None,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            # It times the drawing of examples, and would fail on a busy machine.
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    seed(chosen)(run)()
