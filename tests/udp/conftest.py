"""A network that loses datagrams, and nodes that dial through it."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.identities.local import LocalIdentity
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from transports.udp import UdpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ockamlite.events import Event

PATIENCE_S = 20.0
QUICK = dataclasses.replace(
    LIMITS, portal_stall_s=1.0, portal_connect_s=2.0, portal_close_grace_s=0.5, portal_half_closed_s=2.0
)


class Air(asyncio.DatagramProtocol):
    """Passes datagrams to a target and back, but for those that `loses` says."""

    def __init__(self, target: tuple[str, int], loses: Callable[[bytes], bool]) -> None:
        self.target = target
        self.loses = loses
        self.port = 0
        self.passed: list[bytes] = []
        """Every datagram that came, lost or not."""
        self._sides: dict[Any, asyncio.DatagramTransport] = {}
        self._front: asyncio.DatagramTransport

    def connection_made(self, transport: Any) -> None:
        self._front = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, remote: Any) -> None:
        self.passed.append(data)
        if self.loses(data):
            return
        side = self._sides.get(remote)
        if side is None:
            _ = asyncio.get_running_loop().create_task(self._new_side(data, remote))
        else:
            side.sendto(data)

    async def _new_side(self, data: bytes, remote: Any) -> None:
        air = self

        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _: Any) -> None:
                air.passed.append(data)
                if not air.loses(data):
                    air._front.sendto(data, remote)

        loop = asyncio.get_running_loop()
        made, _ = await loop.create_datagram_endpoint(Back, remote_addr=self.target)
        self._sides.setdefault(remote, made).sendto(data)
        if self._sides[remote] is not made:
            made.close()

    def close(self) -> None:
        self._front.close()
        for side in self._sides.values():
            side.close()


class Net:
    """Nodes that know UDP, services and lossy ways; closed at the end."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.airs: list[Air] = []
        self.servers: list[asyncio.Server] = []
        self.events: list[Event] = []
        """Of all nodes."""

    async def node(self, **limits: Any) -> Node:
        found = dataclasses.replace(QUICK, **limits)
        node = Node(
            limits=found,
            on_event=self.events.append,
            transports=[UdpTransport(found)],
            identity=LocalIdentity.ephemeral(int(time.time())),
        )
        self.nodes.append(node)
        return await node.__aenter__()

    async def air(self, port: int, loses: Callable[[bytes], bool]) -> Air:
        loop = asyncio.get_running_loop()
        _, air = await loop.create_datagram_endpoint(
            lambda: Air(("127.0.0.1", port), loses), local_addr=("127.0.0.1", 0)
        )
        self.airs.append(air)
        return air

    async def echo(self) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65_536):
                    writer.write(data)
                    await writer.drain()
                writer.write_eof()
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()
        for air in self.airs:
            air.close()
        for server in self.servers:
            server.close()


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    """Nodes over UDP."""
    made = Net()
    yield made
    await made.close()


@pytest.fixture
def losing() -> Callable[[float, int], Callable[[bytes], bool]]:
    """Makes what loses a share of all datagrams, the same ones for the same seed."""

    def make(ratio: float, seed: int) -> Callable[[bytes], bool]:
        luck = random.Random(seed)
        return lambda _: luck.random() < ratio

    return make
