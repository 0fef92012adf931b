"""What the rounds ask of every measure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench import Bench
    from benchmarks.tables import Column


class Measure(ABC):
    """Something that is measured for a few rows, in turn, round by round."""

    name: str
    """Its word for `--only`."""
    title: str
    columns: tuple[Column, ...]
    base: str = "ssh"
    """The row that ratios are taken to."""
    notes: tuple[str, ...] = ()

    def rows(self, bench: Bench) -> list[str]:
        """What is compared; by default every tunnel."""
        return list(bench.tunnels)

    @abstractmethod
    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """One round's figures of one row, by column key; BenchmarkError or OSError if it cannot."""

    def remarks(self, results: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[str]:
        """What the figures of all rows say together."""
        return []

    def finish(self, bench: Bench) -> None:  # noqa: B027 - most keep nothing
        """Stop what only this measure needed."""
