"""Reports a run as a table, or as JSON with the machine and the versions."""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psycopg
from rich.box import MARKDOWN
from rich.table import Table

from benchmarks.harness.figures import Aim, Comparison, Figure
from console.embedded.servers import Services

_OURS = ("crawlyard", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "pydantic")
_PEERS = ("procrastinate", "pgqueuer", "asyncpg", "awa-pg")
"""Installed by `scripts/bootstrap bench`."""

Ratio = tuple[float, Comparison]


def table(figures: Iterable[Figure], *, markdown: bool = False) -> Table:
    """One row per figure, and another for each further comparison; ratios compare figures of the same run."""
    found = {figure.name: figure for figure in figures}
    box = MARKDOWN if markdown else None
    made = Table("what", "median", "spread", "ratio", "aim", "", box=box, pad_edge=markdown)
    for figure in found.values():
        cells = (figure.name, f"{_rounded(figure.median)} {figure.unit}", f"{figure.spread:.0%}")
        rows = [("", *_judged(figure.aim, figure.median))] if figure.aim else []
        rows += [_describe(ratio) for ratio in _ratios(figure, found)]
        for row in rows or [("", "", "")]:
            made.add_row(*cells, *row)
            cells = ("", "", "")
    return made


def as_json(figures: Iterable[Figure], services: Services) -> dict[str, Any]:
    """Return all values, for charts and for comparing runs."""
    found = {figure.name: figure for figure in figures}
    return {"machine": machine(services), "figures": [_entry(figure, found) for figure in found.values()]}


def machine(services: Services) -> dict[str, Any]:
    """Return cores, memory, and the versions of everything that was measured."""
    with psycopg.connect(services.database_url) as connection:
        ((postgres,),) = connection.execute("SHOW server_version")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": postgres,
        "versions": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in (*_OURS, *_PEERS):
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _entry(figure: Figure, found: dict[str, Figure]) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "at": figure.at,
        "values": figure.values,
        "median": figure.median,
        "spread": figure.spread,
        "aim": figure.aim and asdict(figure.aim),
        "ratios": [asdict(comparison) | {"ratio": ratio} for ratio, comparison in _ratios(figure, found)],
    }


def _ratios(figure: Figure, found: dict[str, Figure]) -> list[Ratio]:
    return [
        (figure.median / found[comparison.reference].median, comparison)
        for comparison in figure.comparisons
        if comparison.reference in found
    ]


def _describe(compared: Ratio) -> tuple[str, str, str]:
    """Return the cells of one comparison: the ratio, its aim, and whether the aim was reached."""
    ratio, comparison = compared
    return f"{ratio:.2f} x {comparison.reference}", *_judged(comparison.aim, ratio)


def _judged(aim: Aim | None, value: float) -> tuple[str, str]:
    """Return an aim, and whether it was reached."""
    if aim is None:
        return "", ""
    verdict = "reached" if aim.is_reached(value) else "missed"
    return f"{'<=' if aim.is_ceiling else '>='} {_rounded(aim.value)}", verdict


def _rounded(value: float) -> str:
    """Round large values to integers, and small ones to three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004
