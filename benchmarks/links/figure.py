"""One figure of a link: what was measured, what is possible at most, and what was to be reached. Pure."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from benchmarks.errors import BenchmarkError
from benchmarks.figures import Spread
from benchmarks.tables import ABSENT, Table
from ockamlite.errors import OckamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    T = TypeVar("T")


_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Run:
    """How one run measures."""

    rounds: int
    """How often what depends on the machine is taken."""
    quick: bool
    """Small sizes: shows that it works."""
    ockamlite: Sequence[str]
    """The command."""

    def size(self, whole: int) -> int:
        """Bytes to move."""
        return whole // 8 if self.quick else whole


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table."""

    what: str
    values: Sequence[float]
    """One per round; where it is exact, one."""
    unit: str
    digits: int = 0
    limit: float | None = None
    """What is physically possible, in the same unit."""
    least_share: float | None = None
    """Part of the limit to be reached."""
    least: float | None = None
    most: float | None = None

    @classmethod
    def rate(
        cls,
        what: str,
        values: Sequence[float],
        *,
        limit: float | None = None,
        least_share: float | None = None,
        least: float | None = None,
    ) -> Self:
        """Bytes a second."""
        if Spread.of(values).middle < _MEGABYTE:
            return cls(what, values, "B/s", limit=limit, least_share=least_share, least=least)
        mega = [value / _MEGABYTE for value in values]
        limit = limit / _MEGABYTE if limit is not None else None
        least = least / _MEGABYTE if least is not None else None
        return cls(what, mega, "MB/s", 1, limit=limit, least_share=least_share, least=least)

    @property
    def share(self) -> float | None:
        """Part of what is possible."""
        return Spread.of(self.values).middle / self.limit if self.limit else None

    @property
    def is_reached(self) -> bool | None:
        """Whether the aim is reached; None if there is none."""
        middle, share = Spread.of(self.values).middle, self.share
        aims = []
        if self.least_share is not None and share is not None:
            aims.append(share >= self.least_share)
        if self.least is not None:
            aims.append(middle >= self.least)
        if self.most is not None:
            # The worst counts where a bound must not be passed.
            aims.append(max(self.values) <= self.most)
        return all(aims) if aims else None

    def row(self) -> list[str]:
        """As text."""
        share, aim = self.share, ABSENT
        if self.least_share is not None:
            aim = f"≥ {self.least_share:.0%}"
        elif self.least is not None:
            aim = f"≥ {_number(self.least, self.digits)} {self.unit}"
        elif self.most is not None:
            aim = f"≤ {_number(self.most, self.digits)} {self.unit}"
        return [
            self.what,
            f"{_spread(self.values, self.digits)} {self.unit}",
            ABSENT if self.limit is None else f"{_number(self.limit, self.digits)} {self.unit}",
            ABSENT if share is None else f"{share:.1%}",
            aim,
            {True: "yes", False: "**no**", None: ABSENT}[self.is_reached],
        ]


def attempt(failures: list[str], what: str, measure: Callable[[], T]) -> T | None:
    """Measure; what goes wrong is noted and ends this measurement, not the run."""
    try:
        return measure()
    except (BenchmarkError, OckamError, OSError, EOFError, subprocess.SubprocessError) as error:
        failures.append(f"{what} failed: {type(error).__name__}: {error}")
        return None


def figures_table(title: str, figures: Iterable[Figure], notes: Sequence[str] = ()) -> Table:
    """A table of figures."""
    headings = ("", "measured", "physical limit", "share of it", "to reach", "reached")
    return Table(title, headings, [figure.row() for figure in figures], tuple(notes))


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _spread(values: Sequence[float], digits: int) -> str:
    spread = Spread.of(values)
    middle, low, high = (_number(x, digits) for x in (spread.middle, spread.low, spread.high))
    return middle if low == high else f"{middle} ({low}..{high})"
