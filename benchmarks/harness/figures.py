"""What was measured: several values of one thing, their median, and how far they lie apart."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Aim:
    """What a value, or a ratio, is to reach."""

    value: float
    is_ceiling: bool = False
    """Whether it is not to be exceeded, instead."""

    def is_reached(self, value: float) -> bool:
        """Whether it is as good as this."""
        return value <= self.value if self.is_ceiling else value >= self.value


def at_most(value: float) -> Aim:
    """A ceiling."""
    return Aim(value, is_ceiling=True)


@dataclass(frozen=True)
class Comparison:
    """With which figure of the same run another one is compared."""

    reference: str
    aim: Aim | None = None
    """The ratio to it which is to be reached; none where it is only told."""


@dataclass(frozen=True)
class Figure:
    """One thing, measured in several rounds of one run."""

    name: str
    unit: str
    values: list[float]
    comparisons: tuple[Comparison, ...] = ()
    """Those whose reference was not measured in the run are left out of the report."""
    aim: Aim | None = None
    """What it is to reach by itself."""
    at: tuple[str, int] | None = None
    """Its place on an axis of a chart."""

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """From the least to the greatest, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median
