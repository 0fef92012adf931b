"""Bluetooth LE: on the emulated air in virtual time, and in real time what the processor makes of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.links.figure import Figure, Run, attempt, figures_table
from benchmarks.links.portal import Service, down, first_byte, joined, up
from boards.emulation.air import Air, AirModel
from boards.network import Network
from ockamlite import Node
from ockamlite.limits import LIMITS
from transports.ble import BleTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from benchmarks.tables import Table

_PACED = AirModel()
_SMALL_MTU = 23
_UNPACED = AirModel(interval_s=0.0005, packets_per_event=200)
_FIRST_BYTES = 20
_LEAST_SHARE = 0.85
_TIER_A = 1e6


def bluetooth(run: Run) -> Table:
    """All of it."""
    failures: list[str] = []
    cases = [
        ("paced", partial(_paced, run)),
        ("first byte", partial(_first_bytes, run)),
        ("emulated air", partial(_real, run, "emulated air in one process", _air)),
    ]
    missing = _obstacle()
    if missing is None:
        what = "bleak over bumble in one process"
        cases.append(("bumble", partial(_real, run, what, _controllers)))
    figures = [figure for name, case in cases for figure in attempt(failures, name, case) or ()]
    notes = [
        f"Paced: a connection event each {_PACED.interval_s * 1000:g} ms, with {_PACED.packets_per_event} "
        f"packets of {_PACED.packet_bytes} octets each way; exact, in virtual time. The limit is all that "
        "they hold, the heads of L2CAP and ATT as well; with an MTU of 23 each holds a value of 20 octets.",
        f"First byte: from the start of the scan to one byte there and back through a new link, channel and "
        f"portal; {_FIRST_BYTES} seeds, in virtual time. Advertised each {_PACED.advertising_s * 1000:g} ms.",
        "In one process: real time, both ends, client and service on one core; one transfer of each round.",
        *([f"bumble's controllers are not measured: {missing}"] if missing else []),
        *failures,
    ]
    return figures_table("Bluetooth LE", figures, notes)


def _paced(run: Run) -> list[Figure]:
    model = _PACED
    per_s = model.packets_per_event / model.interval_s
    figures = []
    for mtu, size, limit, least in (
        (model.mtu, 1_000_000, per_s * model.packet_bytes, _LEAST_SHARE),
        (_SMALL_MTU, 60_000, per_s * (_SMALL_MTU - 3), None),
    ):
        network = Network(seed=1)
        rates = network.run(_both_ways(network, mtu, run.size(size)))
        for way, rate in zip(("up", "down"), rates, strict=True):
            what = f"paced, MTU {mtu}, {way}"
            figures.append(Figure.rate(what, [rate], limit=limit, least_share=least))
    return figures


async def _both_ways(network: Network, mtu: int, size: int) -> tuple[float, float]:
    network.trace.is_recording = False
    async with Service() as service:
        near, far = await network.node("near"), await network.node("far")
        hop = await network.ble(near, far, mtu=mtu)
        inlet = await joined(near, far, hop.endpoint, hop.listener, service.port)
        return await up(inlet.port, size), await down(inlet.port, size)


def _first_bytes(run: Run) -> list[Figure]:
    took = []
    for seed in range(run.size(_FIRST_BYTES)):
        network = Network(seed=seed)
        took.append(network.run(_first_byte(network)))
    return [Figure("first byte since the scan began", took, "s", 2, most=1.5)]


async def _first_byte(network: Network) -> float:
    async with Service() as service:
        near, far = await network.node("near"), await network.node("far")
        hop = await network.ble(near, far)
        began = asyncio.get_running_loop().time()
        inlet = await joined(near, far, hop.endpoint, hop.listener, service.port)
        await first_byte(inlet.port)
        return asyncio.get_running_loop().time() - began


def _real(run: Run, what: str, radios: Callable[[], tuple[Any, Any]]) -> list[Figure]:
    rates = [asyncio.run(_through(radios, run.size(4_000_000))) for _ in range(run.rounds)]
    return [
        Figure.rate(f"{what}, {way}", values, least=_TIER_A)
        for way, values in zip(("up", "down"), zip(*rates, strict=True), strict=True)
    ]


async def _through(radios: Callable[[], tuple[Any, Any]], size: int) -> tuple[float, float]:
    central, peripheral = radios()
    async with (
        Service() as service,
        Node(transports=[BleTransport(LIMITS, peripheral)]) as far,
        Node(transports=[BleTransport(LIMITS, central)]) as near,
    ):
        listener = await far.listen("ble:far")
        inlet = await joined(near, far, "ble:far", listener, service.port)
        return await up(inlet.port, size), await down(inlet.port, size)


def _air() -> tuple[Any, Any]:
    air = Air(_UNPACED, seed=1)
    return air.radio(), air.radio()


def _obstacle() -> str | None:
    """What is missing for controllers of bumble's."""
    try:
        import boards.emulation.controllers  # noqa: F401
    except ImportError:
        return "pip install 'ockamlite[bumble]'"
    return None


def _controllers() -> tuple[Any, Any]:
    from boards.emulation.controllers import Controllers

    room = Controllers()
    return room.radio(1), room.radio(2)
