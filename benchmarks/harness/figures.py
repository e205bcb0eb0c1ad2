"""What was measured: several values of one quantity, their median and their spread."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Aim:
    """What a value or a ratio must reach."""

    value: float
    is_ceiling: bool = False
    """True if the value must not exceed it."""

    def is_reached(self, value: float) -> bool:
        """Return true if *value* reaches the aim."""
        return value <= self.value if self.is_ceiling else value >= self.value


def at_most(value: float) -> Aim:
    """Return an aim that must not be exceeded."""
    return Aim(value, is_ceiling=True)


@dataclass(frozen=True)
class Comparison:
    """A comparison with another figure of the same run."""

    reference: str
    aim: Aim | None = None
    """What the ratio must reach; none if it is only reported."""


@dataclass(frozen=True)
class Figure:
    """One quantity, measured several times in one run."""

    name: str
    unit: str
    values: list[float]
    comparisons: tuple[Comparison, ...] = ()
    """The report leaves out those whose reference was not measured in the run."""
    aim: Aim | None = None
    """What the value itself must reach."""
    at: tuple[str, int] | None = None
    """Its position in a chart: axis and value."""

    @property
    def median(self) -> float:
        """The median of the values."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """The range of the values, as a share of the median; 0 where that is 0."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


def percentiles(name: str, seconds: Sequence[float], aims: Mapping[int, Aim]) -> Iterator[Figure]:
    """The median and the 99th percentile of durations, in milliseconds, with their aims by percent."""
    found = quantiles(seconds, n=100)
    for percent in (50, 99):
        yield Figure(f"{name}, p{percent}", "ms", [1000 * found[percent - 1]], aim=aims.get(percent))
