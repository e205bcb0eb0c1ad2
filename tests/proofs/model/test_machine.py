"""
Whatever happens in whatever order, the database is what the design says.

A machine drives the tasks, and a small model beside them says what must come of it; after every step they
are compared. Each run must also have come through every transition that is worth it.
"""

import os
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import get_state_machine_test

from proofs.model.machine.clock import SETTINGS
from proofs.model.machine.machine import Machine
from proofs.model.machine.product import SystemUnderTest
from proofs.model.machine.reached import Reached
from support.depth import deep
from support.worlds.world import Published, World

STEPS = 50

LIVES = 25
"""Under one seed. Hypothesis varies what it has done before: more seeds lead to more places than more lives."""

SEEDS, MOST_SEEDS = 3, 12
"""Of each test, and where some transition was not reached by then; the deep ones are many times as many."""

DEEPER = 20


@pytest.fixture
def system(database: str, published: Published, monkeypatch: pytest.MonkeyPatch) -> Iterator[SystemUnderTest]:
    """The product, with every duration between two ticks of the model's time."""
    for name, seconds in SETTINGS.items():
        monkeypatch.setenv(name, str(seconds))
    world = World(published)
    world.reload_settings()
    with psycopg.connect(database, autocommit=True) as connection:
        yield SystemUnderTest(world, connection)
    world.reload_settings()


@pytest.mark.parametrize("half", range(2))
@pytest.mark.timeout(4 * 3600 if deep() else 1200)
def test_the_product_matches_the_model(system: SystemUnderTest, half: int) -> None:
    """Over many lives of fifty steps, and none of the transitions that matter is left out."""
    reached: Counter[Reached] = Counter()
    for count, chosen in enumerate(_seeds(half), start=1):
        print(f"Hypothesis's seed is {chosen}.")  # noqa: T201 - pytest shows it where the test fails
        live(system, reached, chosen)
        if count >= (SEEDS * DEEPER if deep() else SEEDS) and all(reached[what] for what in Reached):
            break
    print(*(f"{reached[what]:6} {what}" for what in Reached), sep="\n")  # noqa: T201
    assert [what for what in Reached if not reached[what]] == []


def _seeds(half: int) -> list[int]:
    """The same each time; of the deep ones others each time."""
    if deep():
        return [int.from_bytes(os.urandom(4)) for _ in range(MOST_SEEDS * DEEPER)]
    return [half * MOST_SEEDS + place for place in range(MOST_SEEDS)]


def live(system: SystemUnderTest, reached: Counter[Reached], chosen: int) -> None:
    """Some lives under one seed."""
    run = get_state_machine_test(
        lambda: Machine(system, reached),
        settings=settings(
            stateful_step_count=STEPS,
            max_examples=LIVES,
            deadline=None,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            # It times what is drawn, and fails where something else keeps the machine busy.
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    seed(chosen)(run)()
