"""What a relay costs for each message that passes through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.awake import cores_awake
from benchmarks.bench import temporary
from benchmarks.figures import percentile
from benchmarks.load import BusyConnections, blocks_of, bulk_up, round_trips
from benchmarks.measures.measure import Measure
from benchmarks.processes import cpu_seconds
from benchmarks.tables import Column
from benchmarks.tunnels.ockamlite import Ockamlite
from benchmarks.tunnels.rust import RustPortal

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.tunnels.tunnel import Running

PAYLOAD_BYTES = 48 * 1024
"""The most that a portal message carries, so bulk is counted in messages of this size."""
_BUSY = 16


class Relays(Measure):
    """Inlet, relay, outlet: the relay's processor time alone, and what the whole way reaches."""

    name = "relay"
    title = "Through a relay"
    base = "rust"
    columns: tuple[Column, ...] = (
        Column("small", "relay CPU µs, small message", 1, ratio=True),
        Column("large", "relay CPU µs per 48 KiB", 1, ratio=True),
        Column("up", "bulk up MiB/s", ratio=True),
        Column("rtt", "idle p50 µs", ratio=True),
        Column("cpu", "all CPU s/GiB", 2),
        Column("rate", "small messages/s"),
    )
    notes: tuple[str, ...] = (
        f"Small: {_BUSY} connections exchange 100 bytes each, two messages a round trip; messages on the "
        "channel's other errands (credit, pings) are not counted, so their cost is in the figure.",
    )

    def rows(self, bench: Bench) -> list[str]:
        """The tunnels that have relays."""
        return [name for name, t in bench.tunnels.items() if isinstance(t, RustPortal | Ockamlite)]

    def _running(self, bench: Bench, row: str) -> Running:
        tunnel = bench.tunnels[row]
        assert isinstance(tunnel, RustPortal | Ockamlite)
        opener = temporary(lambda stack, folder: tunnel.relayed(stack, folder, bench.target_port))
        return bench.running(f"{row} relayed", opener)

    def take(self, bench: Bench, row: str) -> dict[str, float]:
        """Bulk, then small messages, reading the relay's processor time."""
        running, sizes = self._running(bench, row), bench.sizes
        relay = running.middle.pids if running.middle else ()
        meter, before = bench.meter(running.pids), cpu_seconds(relay)
        took = bulk_up(running.port, blocks_of(sizes.bulk_mib))
        large, cost = cpu_seconds(relay) - before, meter()
        with BusyConnections(running.port, _BUSY) as busy:
            before = cpu_seconds(relay)
            chatter = busy.run(sizes.seconds)
            small = cpu_seconds(relay) - before
        with cores_awake():
            rtt = percentile(round_trips(running.port, count=sizes.round_trips, seconds=5.0), 0.5)
        return {
            "small": small / (2 * chatter.round_trips) * 1e6,
            "large": large / (sizes.bulk_mib * 2**20 / PAYLOAD_BYTES) * 1e6,
            "up": sizes.bulk_mib / took,
            "rtt": rtt * 1e6,
            "cpu": cost.tunnel_s / (sizes.bulk_mib / 1024),
            "rate": 2 * chatter.round_trips / chatter.seconds,
        }

    def finish(self, bench: Bench) -> None:
        """Stop the relayed tunnels."""
        for row in self.rows(bench):
            bench.drop(f"{row} relayed")
