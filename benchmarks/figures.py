"""From a measurement's values, one per round, to what is printed. Pure: no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a few values, and how far they lie apart."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise values; an empty sequence raises ValueError."""
        if not values:
            raise ValueError("no values to summarise")
        return cls(median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        """`middle (low..high)`, or the middle alone when all values print alike."""
        middle, low, high = (f"{x:.{digits}f}" for x in (self.middle, self.low, self.high))
        return middle if low == high else f"{middle} ({low}..{high})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, by nearest rank; ValueError if empty."""
    if not values:
        raise ValueError("no values to rank")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratios(rounds: Mapping[int, float], base: Mapping[int, float]) -> list[float]:
    """Each round's value over the base's value *of the same round*.

    Rounds that either side lacks, or whose base is zero, are left out: figures of different rounds
    are not comparable on a machine whose speed drifts.
    """
    return [rounds[n] / base[n] for n in sorted(rounds) if base.get(n)]


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through points, and how well it describes them."""

    slope: float
    """Change of y for each unit of x."""
    offset: float
    fit: float
    """Share of y's variance that the line explains (r squared), 1 when the points lie on it."""


def straight_line(points: Sequence[tuple[float, float]]) -> Line:
    """Least squares through (x, y) points; fewer than two different x raise ValueError."""
    if len({x for x, _ in points}) < 2:
        raise ValueError("a line needs two different x")
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    square_x = sum((x - mean_x) ** 2 for x, _ in points)
    square_y = sum((y - mean_y) ** 2 for _, y in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / square_x
    fit = 1.0 if square_y == 0 else slope * slope * square_x / square_y
    return Line(slope, mean_y - slope * mean_x, fit)
