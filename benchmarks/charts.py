"""`python -m benchmarks.charts FIGURES.json PICTURE.svg`: draws the figures of the line `scale` as curves."""

import json
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

_QUANTITIES = {"/s": "lives per second", "ms": "ms per round"}
"""The rows of the picture: their labels, by the unit of their figures."""

_INK, _BAND = "#1f4e79", "#1f4e7933"


@click.command()
@click.argument("figures", type=click.Path(path_type=Path, exists=True))
@click.argument("picture", type=click.Path(path_type=Path))
def main(figures: Path, picture: Path) -> None:
    """Draw the medians and the ranges of the values over what was varied."""
    curves: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    for figure in json.loads(figures.read_text())["figures"]:
        if figure["at"]:
            axis, place = figure["at"]
            curves.setdefault((figure["unit"], axis), []).append((place, figure))
    if not curves:
        raise click.UsageError(
            f"{figures} contains no figure of the line scale. Run make bench ONLY=scale ARGS='--json {figures}'."
        )
    axes = list(dict.fromkeys(axis for _, axis in curves))
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "scale", "font.size": 9}
    drawn = Figure(figsize=(2.7 * len(axes), 4.8), layout="constrained")
    for (unit, axis), points in curves.items():
        place = list(_QUANTITIES).index(unit) * len(axes) + axes.index(axis) + 1
        _draw(drawn.add_subplot(len(_QUANTITIES), len(axes), place), points, axis, _QUANTITIES[unit])
    drawn.savefig(picture, metadata={"Date": None})


def _draw(panel: Any, points: list[tuple[int, dict[str, Any]]], axis: str, quantity: str) -> None:
    places = [place for place, _ in points]
    panel.fill_between(
        places,
        [min(f["values"]) for _, f in points],
        [max(f["values"]) for _, f in points],
        color=_BAND,
        lw=0,
    )
    panel.plot(places, [figure["median"] for _, figure in points], color=_INK, marker="o", ms=3)
    panel.set(xscale="log", xlabel=axis, ylabel=quantity, ylim=(0, None), xticks=places)
    panel.minorticks_off()
    panel.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:,.0f}"))
    panel.tick_params(axis="x", labelrotation=30)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    main()
