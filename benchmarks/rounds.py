"""The rounds: every row of a measure in turn, and again, so that a machine that drifts drifts for all."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.tables import Table, round_table

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.measures.measure import Measure


def measured(measure: Measure, bench: Bench, rounds: int) -> Table:
    """All rounds of one measure; a row that fails is left out of later rounds and named below."""
    rows = measure.rows(bench)
    results: dict[str, dict[int, dict[str, float]]] = {row: {} for row in rows}
    failures: dict[str, str] = {}
    for number in range(rounds):
        for row in rows:
            if row in failures:
                continue
            print(f"{measure.name}: round {number + 1}/{rounds}, {row}", file=sys.stderr, flush=True)
            try:
                results[row][number] = measure.take(bench, row)
            except (BenchmarkError, OSError, subprocess.SubprocessError, KeyError, ValueError) as error:
                failures[row] = f"{row} failed in round {number + 1}: {type(error).__name__}: {error}"
                bench.drop(row)
    measure.finish(bench)
    notes = [*measure.notes, *measure.remarks(results), *failures.values()]
    return round_table(
        measure.title,
        measure.columns,
        {r: v for r, v in results.items() if v},
        base=measure.base,
        notes=notes,
    )
