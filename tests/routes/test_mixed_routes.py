"""One body over every route: nothing but the route says which links it goes over."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import Air, AirModel
from boards.emulation.line import PtyLine
from ockamlite import TrustIdentifiers
from ockamlite.errors import AnswerTimeoutError
from ockamlite.limits import LIMITS
from transports.ble import BleTransport
from transports.serial import SerialTransport
from transports.udp import UdpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROUTES = [
    "tcp",
    "udp",
    "serial",
    "ble",
    "ble,tcp",
    "ble,ble",
    "tcp,serial",
    "serial,serial",
    "udp,ble",
    "ble,serial,udp,tcp",
    "tcp,udp,serial,ble",
]
BAUD = 921_600


class World:
    """Nodes in a row, and the links between them."""

    def __init__(self, net: Any, folder: Path) -> None:
        self.net = net
        self.air = Air(AirModel(), seed=1)
        self.lines: list[PtyLine] = []
        self._folder = folder

    async def node(self) -> Any:
        host = await self.net.node()
        for transport in (
            BleTransport(LIMITS, self.air.radio()),
            SerialTransport(LIMITS),
            UdpTransport(LIMITS),
        ):
            host._transports[transport.kind] = transport
        return host

    async def link(self, kind: str, number: int) -> tuple[str, str]:
        """Where to listen for a link, and what to dial; the same but for the two ends of a line."""
        match kind:
            case "serial":
                ends = [self._folder / f"{number}{end}" for end in "ab"]
                line = PtyLine(ends, seed=number)
                self.lines.append(line)
                await line.__aenter__()
                first, second = (f"serial:{device}?baud={BAUD}" for device in line.devices)
                return first, second
            case "ble":
                return (f"ble:node-{number}",) * 2
            case _:
                return (f"{kind}:127.0.0.1:0",) * 2

    async def row(self, kinds: list[str]) -> tuple[list[Any], list[str], Any]:
        """The nodes, the hops between them, and the listener of the last."""
        nodes = [await self.node() for _ in range(len(kinds) + 1)]
        hops = []
        listener: Any = None
        for number, kind in enumerate(kinds):
            here, there = await self.link(kind, number)
            listener = await nodes[number + 1].listen(here)
            hops.append(there if kind in ("ble", "serial") else str(listener.endpoint))
        return nodes, hops, listener


@pytest.fixture
async def world(net: Any, tmp_path: Path) -> AsyncIterator[World]:
    made = World(net, tmp_path)
    yield made
    for host in net.hosts:
        await host.close()
    for line in made.lines:
        line.close()


async def echoed(port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.write_eof()
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("kinds", ROUTES)
async def test_a_channel_and_a_portal_go_over_any_mix_of_links(world: World, net: Any, kinds: str) -> None:
    nodes, hops, listener = await world.row(kinds.split(","))
    first, *middle, last = nodes
    for node, onward in zip(middle, hops[1:], strict=True):
        node.forward(onward)

    channels = last.secure_channel_listener(trust=TrustIdentifiers(first.identity.identifier))
    last.open(channels.address, listener)
    last.open(last.uppercase(), channels)
    last.open(last.outlet(f"tcp:127.0.0.1:{await net.echo()}").address, channels)
    path = first.path(
        ",".join([*hops, "secure:secure_channel_listener"]), trust=TrustIdentifiers(last.identity.identifier)
    )
    route = await path.wait(20)
    assert (await first.ask(route / "uppercase", "the same everywhere")).text == "THE SAME EVERYWHERE"
    inlet = await first.inlet("tcp:127.0.0.1:0", route / "outlet")
    await echoed(inlet.port, random.Random(kinds).randbytes(12_000))


@pytest.mark.parametrize("kinds", ["ble,tcp", "tcp,serial", "serial,ble", "ble,udp"])
async def test_no_link_of_any_kind_is_dialled_without_leave(world: World, kinds: str) -> None:
    nodes, hops, listener = await world.row(kinds.split(","))
    first, middle, _ = nodes
    middle.forward("tcp:127.0.0.1:9")
    path = first.path(",".join([*hops, "echo"]))
    route = await path.wait(20)
    with pytest.raises(AnswerTimeoutError):
        await first.ask(route, b"hello", timeout_s=0.2)
    assert not listener.links
    middle.forward(kinds.rpartition(",")[2])
    assert (await first.ask(route, b"hello")).payload == b"hello"
    assert len(listener.links) == 1
