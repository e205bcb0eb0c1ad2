"""The doctor warns of what comes near its bound, before it is reached."""

import pytest

from persistence.db.snapshot import snapshot
from persistence.reports.growth import Size, near_bounds
from persistence.settings import settings
from support.command import Run
from support.worlds.world import World


def near(world: World) -> list[Size]:
    """What is near its bound."""
    world.reload_settings()
    world.rows("ANALYZE")
    world.rows("DELETE FROM periodic_ring")
    world.deliver("upkeep.take_statistics")
    with snapshot(settings().statement_timeout) as connection:
        return near_bounds(connection)


BOUNDS = {
    "max_connections": 5,
    "max_areas": 5,
    "max_areas_per_account": 5,
    "max_waiting": 5,
    "max_deferred": 5,
    "max_rejected": 5,
    "max_handled": 5,
    "max_errors": 5,
}


def fill(world: World, rows: int) -> None:
    """So many of everything that has a bound."""
    for n in range(rows):
        world.crawler(capacity=0)
        path = f"g/p{n}"
        world.rows(
            "INSERT INTO area VALUES (:path, :id, 'x', 'project')", path=path, id=f"gid://gitlab/Project/{n}"
        )
        world.rows("INSERT INTO area_authorization VALUES ('acc', :path)", path=path)
        world.rows("INSERT INTO handled_message (message_id) VALUES (:id)", id=f"m{n}")
        world.submit(world.order(account_id="nobody"))
    jobs = world.jobs(rows)
    for job in jobs:
        world.deliver("failures.log", errors=[{"error_type": "Odd", "error_message": "m", "job_id": job}])


def test_what_is_far_from_its_bound_is_not_told(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three fifths of each."""
    for name in (
        "max_connections",
        "max_areas",
        "max_areas_per_account",
        "max_waiting",
        "max_rejected",
        "max_errors",
    ):
        monkeypatch.setenv(f"CRAWLYARD_{name.upper()}", "5")
    fill(world, 3)
    assert near(world) == []


def test_what_is_near_its_bound_is_told(
    world: World, broker: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four fifths of each, in all or of one account, with the settings to raise."""
    for name in BOUNDS:
        monkeypatch.setenv(f"CRAWLYARD_{name.upper()}", "5")
    fill(world, 4)
    found = {(size.setting, size.account_id): size.rows for size in near(world)}
    assert found.pop(("max_handled", None)) >= 4
    assert found == {
        ("max_connections", None): 4,
        ("max_areas", None): 4,
        ("max_rejected", None): 4,
        ("max_errors", None): 4,
        ("max_areas_per_account", "acc"): 4,
        ("max_waiting", "acc"): 4,
    }
    output = run("doctor", "--json")
    (finding,) = [one for one in output.json["findings"] if one["about"] == "growth"]
    assert (output.code, finding["level"]) == (0, "warning")
    assert "4 open connections, of at most 5; 4 areas, of at most 5" in finding["detail"]
    assert "4 waiting jobs of account acc, of at most 5" in finding["detail"]
    assert "CRAWLYARD_MAX_AREAS, CRAWLYARD_MAX_REJECTED" in finding["remedy"]
