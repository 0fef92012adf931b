"""Serial lines, in virtual time."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.links.figure import Figure, Run, attempt, figures_table
from benchmarks.links.portal import Service, down, joined, up
from boards.network import Network
from ockamlite.wire.reliable.frames import DATA_OVERHEAD_BYTES
from ockamlite.wire.reliable.profile import Profile
from transports.serial.cobs import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from benchmarks.tables import Table


class Case(NamedTuple):
    """What is measured."""

    baud: int
    bit_error_ratio: float
    size: int
    least_share: float | None = None

    @property
    def text(self) -> str:
        """Its name."""
        noise = f", bit error rate {self.bit_error_ratio:g}" if self.bit_error_ratio else ""
        return f"{self.baud:,} Bd{noise}"


CASES = (
    Case(115_200, 0.0, 400_000, 0.90),
    Case(115_200, 1e-5, 400_000, 0.85),
    Case(115_200, 1e-4, 400_000, 0.45),
    Case(9600, 0.0, 40_000),
    Case(3_000_000, 0.0, 4_000_000),
)


def limit_bytes_per_s(baud: int) -> float:
    """Payload of a line that carries nothing but full frames, of bytes as random as those of a channel."""
    payload = Profile.serial(baud).payload_max
    rng = random.Random(1)
    sample = [len(pack(rng.randbytes(payload + DATA_OVERHEAD_BYTES))) for _ in range(500)]
    return baud / 10 * payload * len(sample) / sum(sample)


def serial(run: Run) -> Table:
    """All cases, each way."""
    figures: list[Figure] = []
    failures: list[str] = []
    for case in CASES:
        size, limit = run.size(case.size), limit_bytes_per_s(case.baud)
        rates = attempt(failures, case.text, partial(_run, _both_ways, case, size))
        for way, rate in zip(("up", "down"), rates or (), strict=False):
            what = f"{case.text}, {way}"
            figures.append(Figure.rate(what, [rate], limit=limit, least_share=case.least_share))
    case = CASES[0]
    what = f"{case.text}, both ways at once, the slower"
    both = attempt(failures, what, partial(_run, _at_once, case, run.size(case.size)))
    if both is not None:
        figures.append(Figure.rate(what, both, limit=limit_bytes_per_s(case.baud)))
    notes = (
        "Exact, in virtual time. The limit is the payload of a line that carries nothing but full frames: of "
        "64 octets at 9,600 Bd, 256 at 115,200 Bd, 1,024 at 3,000,000 Bd. Time counts from the application's "
        "connection until the last byte has been compared.",
        *failures,
    )
    return figures_table("Serial lines", figures, notes)


def _run(body: Callable[..., Coroutine[Any, Any, list[float]]], case: Case, size: int) -> list[float]:
    network = Network(seed=1)
    return network.run(body(network, case, size))


async def _line(network: Network, case: Case, service: Service) -> int:
    """The port of an inlet before the line."""
    network.trace.is_recording = False
    near, far = await network.node("near"), await network.node("far")
    hop = await network.serial(near, far, baud=case.baud, noise=case.bit_error_ratio)
    inlet = await joined(near, far, hop.endpoint, hop.listener, service.port)
    port: int = inlet.port
    return port


async def _both_ways(network: Network, case: Case, size: int) -> list[float]:
    async with Service() as service:
        port = await _line(network, case, service)
        return [await up(port, size), await down(port, size)]


async def _at_once(network: Network, case: Case, size: int) -> list[float]:
    async with Service() as service:
        port = await _line(network, case, service)
        return [min(await asyncio.gather(up(port, size), down(port, size)))]
