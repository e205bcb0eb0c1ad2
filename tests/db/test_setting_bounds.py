"""Every duration has bounds, within which every unit works with it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from persistence.setting_types import NEVER, Bounds
from persistence.settings import PREFIX, Settings, settings
from support.depth import deep
from support.worlds.world import World

DURATIONS = [name for name, info in Settings.model_fields.items() if isinstance(info.default, timedelta)]

BESIDE = {
    # A connection's timeout exceeds twice the heartbeat plus twice the sweep.
    ("connection_timeout", "shortest"): {
        "connection_timeout": "0.203",
        "heartbeat_interval": "0.001",
        "sweep_interval": "0.1",
    },
    ("heartbeat_interval", "longest"): {"connection_timeout": "604800", "heartbeat_interval": "302000"},
    ("sweep_interval", "longest"): {"connection_timeout": "604800"},
}
"""What has to be set otherwise for an extreme value to be accepted."""


def bounds_of(name: str) -> Bounds:
    """The bounds of a setting; a duration without bounds fails."""
    (bounds,) = (one for one in Settings.model_fields[name].metadata if isinstance(one, Bounds))
    return bounds


def extremes() -> Iterator[tuple[str, str, str]]:
    """Each duration with its extreme values; in the short form with one of them, in turn."""
    for turn, name in enumerate(DURATIONS):
        bounds = bounds_of(name)
        its = [("shortest", f"{bounds.shortest:.10g}"), ("longest", f"{bounds.longest:.10g}")]
        its += [("none", "none")] * bounds.or_never
        yield from ((name, *one) for one in (its if deep() else [its[turn % len(its)]]))


def test_a_default_is_within_its_bounds() -> None:
    """Defaults are not read from text, and so are not checked when they are used."""
    for name in DURATIONS:
        default = Settings.model_fields[name].default.total_seconds()
        assert bounds_of(name).shortest <= default <= bounds_of(name).longest, name


def test_never_is_written_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a century, which is older than anything."""
    monkeypatch.setenv("CRAWLYARD_KEEP_JOBS", "none")
    monkeypatch.setenv("CRAWLYARD_STALL_TIMEOUT", " None ")
    world.reload_settings()
    assert (settings().keep_jobs, settings().stall_timeout) == (NEVER, NEVER)


@pytest.mark.parametrize(("name", "bound", "value"), list(extremes()))
def test_every_unit_works_with_the_extremes_of_each_duration(
    name: str, bound: str, value: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is accepted at the start fails nowhere later."""
    for other, text in ({name: value} | BESIDE.get((name, bound), {})).items():
        monkeypatch.setenv(PREFIX + other.upper(), text)
    world.reload_settings()

    crawler, (one, two) = world.crawler_with_jobs(2)
    world.sends(crawler.frame("job_started", one))
    crawler.fails(two)
    world.deliver("jobs.enqueue", job_ids=world.jobs(1))
    for task in ("reconcile", "take_statistics", "clean_up", "feed_deferred"):
        world.deliver(f"upkeep.{task}")
    for silence in (0, 3600):
        crawler.silent_for(silence)
        world.sweep()
    world.assign()

    assert world.rejections() == []
