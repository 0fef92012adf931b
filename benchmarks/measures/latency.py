"""Round trips of one byte: alone, and beside a bulk transfer through the same tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.awake import cores_awake
from benchmarks.figures import percentile
from benchmarks.load import round_trips
from benchmarks.measures.measure import Measure
from benchmarks.tables import Column

if TYPE_CHECKING:
    from benchmarks.bench import Bench


class Latency(Measure):
    """What a person typing through the tunnel feels."""

    name = "rtt"
    title = "Round trip of one byte"
    columns: tuple[Column, ...] = (
        Column("idle", "idle p50 µs", ratio=True),
        Column("idle99", "idle p99 µs"),
        Column("beside", "beside bulk p50 µs", ratio=True),
        Column("beside99", "beside bulk p99 µs"),
        Column("bulk", "that bulk MiB/s"),
    )
    notes: tuple[str, ...] = (
        "Idle: processes that spin at the kernel's idle priority keep the cores awake; they yield at once.",
        "Beside bulk: a second connection of the same tunnel sends as fast as it can meanwhile.",
    )

    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """Time round trips without and with the transfer."""
        running, sizes = bench.running(row), bench.sizes
        with cores_awake():
            idle = round_trips(running.port, count=sizes.round_trips, seconds=10.0)
        # The transfer outlasts the round trips, so that none of them is timed alone.
        with bench.bulk_beside(running.port, sizes.seconds + 1.0) as finish:
            beside = round_trips(running.port, count=10**9, seconds=sizes.seconds)
            bulk = finish()
        return {
            "idle": percentile(idle, 0.5) * 1e6,
            "idle99": percentile(idle, 0.99) * 1e6,
            "beside": percentile(beside, 0.5) * 1e6,
            "beside99": percentile(beside, 0.99) * 1e6,
            "bulk": bulk,
        }
