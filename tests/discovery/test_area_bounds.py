"""The areas that discoveries make have a bound, for an account and in all; what is known stays in use."""

import pytest

from persistence.reports.statistics import read_statistics
from support.worlds.discoveries import Discoverer, group, project
from support.worlds.world import World

LATER = "2026-05-04T03:02:09Z"


def bounded(world: World, monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    """Set a bound."""
    monkeypatch.setenv(f"CRAWLYARD_{name}", str(limit))
    world.reload_settings()


def authorized(world: World) -> list[str]:
    """The areas that accounts may see, in order."""
    return [path for (path,) in world.rows("SELECT area_id FROM area_authorization ORDER BY 1")]


def test_areas_beyond_an_accounts_bound_are_refused_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones are kept, with their jobs; those that the account has already are found again."""
    bounded(world, monkeypatch, "MAX_AREAS_PER_ACCOUNT", 2)
    discoverer = Discoverer.at_work(world)

    discoverer.finds(project("a", 1), project("b", 2), project("c", 3))
    discoverer.finds(project("d", 4), project("b", 2), at=LATER)

    assert authorized(world) == ["a", "b"]
    assert world.rows("SELECT full_path FROM area ORDER BY 1") == [("a",), ("b",)]
    assert world.scalar("SELECT count(*) FROM job WHERE full_path IN ('c', 'd')") == 0
    assert world.rejections() == [("crawler.frames", "too_many_areas")] * 2
    sums = world.job(discoverer.job_id).progress["discovery"]
    assert (sums["projects"], sums["areasRefused"]) == (3, 2)
    assert read_statistics().refused_beyond_bounds == {"area_authorization": 2}


def test_refused_areas_are_no_progress(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that finds nothing that may be kept stalls."""
    bounded(world, monkeypatch, "MAX_AREAS_PER_ACCOUNT", 1)
    discoverer = Discoverer.at_work(world)
    discoverer.finds(project("a", 1))
    before = discoverer.attempt().progressed_at

    discoverer.finds(project("b", 2), at=LATER)

    assert discoverer.attempt().progressed_at == before


def test_a_group_that_is_a_namespace_too_is_one_area(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with both of its items, and counted as one."""
    bounded(world, monkeypatch, "MAX_AREAS_PER_ACCOUNT", 1)
    discoverer = Discoverer.at_work(world)
    namespace = {**group("g", 1), "job_type": "discover_namespaces"}

    discoverer.finds(group("g", 1), namespace)
    discoverer.finds(group("h", 2), {**group("h", 2), "job_type": "discover_namespaces"}, at=LATER)

    assert authorized(world) == ["g"]
    assert world.rejections() == [("crawler.frames", "too_many_areas")] * 2
    assert world.job(discoverer.job_id).progress["discovery"]["areasRefused"] == 1


def test_areas_beyond_the_bound_in_all_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were last counted; an area that exists already counts for nobody else."""
    bounded(world, monkeypatch, "MAX_AREAS", 3)
    world.rows("""
        INSERT INTO area (full_path, gitlab_id, name, type)
        VALUES ('a', 'gid://gitlab/Project/1', 'a', 'project'), ('z', 'gid://gitlab/Project/9', 'z', 'project')
    """)
    world.deliver("upkeep.take_statistics")
    discoverer = Discoverer.at_work(world)

    discoverer.finds(project("a", 1), project("b", 2), project("c", 3))

    assert authorized(world) == ["a", "b"]
    assert world.rejections() == [("crawler.frames", "too_many_areas")]
    assert read_statistics().refused_beyond_bounds == {"area": 1}


def test_an_area_that_moves_is_not_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account has it already."""
    bounded(world, monkeypatch, "MAX_AREAS_PER_ACCOUNT", 1)
    discoverer = Discoverer.at_work(world)
    discoverer.finds(project("a", 1))

    discoverer.finds(project("b", 1), at=LATER)

    assert authorized(world) == ["b"]
    assert world.rejections() == []
