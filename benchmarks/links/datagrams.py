"""UDP on loopback, in real time: what a portal moves whole, and how it ends where datagrams get lost."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.links.figure import Figure, Run, attempt, figures_table
from benchmarks.links.portal import Service, body, down, joined, up
from boards.network import Network
from ockamlite import Node
from ockamlite.limits import LIMITS
from transports.udp import UdpTransport

if TYPE_CHECKING:
    from benchmarks.tables import Table

_MIB = 2**20
_LOSS = 0.01
_LOSSY_RUNS = 10
_LOSSY_BYTES = 4 * _MIB
_PATIENCE_S = 30.0


def datagrams(run: Run) -> Table:
    """Whole transfers, and lossy ones."""
    figures: list[Figure] = []
    failures: list[str] = []
    for secure in (True, False):
        what = "through a channel" if secure else "without a channel"
        rates = attempt(failures, what, partial(_wholes, run, secure=secure))
        for way, values in zip(("up", "down"), zip(*rates or (), strict=True), strict=False):
            figures.append(Figure.rate(f"1 MiB {what}, whole, {way}", values))
    for secure in (True, False):
        what = f"1 % loss {'through a channel' if secure else 'without a channel'}"
        ends = attempt(failures, what, partial(_lossy, run, secure=secure))
        if ends:
            ended = 100 * sum(ends) / len(ends)
            what += ": ended with an error, before a wrong byte"
            figures.append(Figure(what, [ended], f"% of {len(ends)}", least=100))
    notes = (
        "Real time, both ends in one process. Every byte is compared; what is not whole fails the run.",
        f"1 % loss: {_LOSSY_BYTES // _MIB} MiB each way, {_LOSS:.0%} of the datagrams lost. Streams will "
        "repair it; without them a connection that lost something has to end by a reset, not as if it were "
        "whole. A channel numbers its messages and sees what is missing; without one the numbers of the "
        "datagrams tell, between two nodes of ours.",
        *failures,
    )
    return figures_table("UDP on loopback", figures, notes)


def _wholes(run: Run, *, secure: bool) -> list[tuple[float, float]]:
    return [asyncio.run(_whole(secure=secure)) for _ in range(run.rounds)]


async def _whole(*, secure: bool) -> tuple[float, float]:
    async with (
        Service() as service,
        Node(transports=[UdpTransport(LIMITS)]) as far,
        Node(transports=[UdpTransport(LIMITS)]) as near,
    ):
        listener = await far.listen("udp:127.0.0.1:0")
        inlet = await joined(near, far, str(listener.endpoint), listener, service.port, secure=secure)
        return await up(inlet.port, _MIB), await down(inlet.port, _MIB)


def _lossy(run: Run, *, secure: bool) -> list[bool]:
    ends = []
    for seed in range(run.size(_LOSSY_RUNS)):
        network = Network(seed=seed)
        ends.append(network.run(_echoed(network, secure=secure), real_time=True, within_s=2 * _PATIENCE_S))
    return ends


async def _echoed(network: Network, *, secure: bool) -> bool:
    """True if the connection ended with an error, and what came before was what had been sent."""
    network.trace.is_recording = False
    sent = body(_LOSSY_BYTES)
    async with Service() as service:
        near, far = await network.node("near"), await network.node("far")
        hop = await network.udp(near, far, loss=_LOSS)
        inlet = await joined(near, far, hop.endpoint, hop.listener, service.port, secure=secure)
        reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
        came = bytearray()

        async def send() -> None:
            try:
                writer.write(bytes(9) + sent)
                await writer.drain()
                writer.write_eof()
            except ConnectionError:
                pass  # that is what is measured

        async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as both:
            both.create_task(send())
            try:
                while data := await reader.read(65_536):
                    came += data
                failed = False
            except ConnectionError:
                failed = True
        writer.transport.abort()
        return failed and sent.startswith(came)
