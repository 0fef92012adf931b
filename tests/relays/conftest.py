"""A relay, those who register at it, and a peer that sends any bytes."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.cbor import bytes_head
from ockamlite.routing.codec import RouteMemory, decode_message, encode_message_head
from ockamlite.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Raw:
    """A link without a node: it sends what a test makes and shows what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        writer.write(b"\x01")

    def send(self, onward: Route, back: Route, payload: bytes) -> None:
        """Send one routing message."""
        frame = encode_message_head(onward, back) + bytes_head(len(payload)) + payload
        self.writer.write(struct.pack(">I", len(frame)) + frame)

    async def start(self) -> None:
        """Read the peer's version byte."""
        assert await self._reader.readexactly(1) == b"\x01"

    async def frame(self) -> bytes:
        """The next frame."""
        async with asyncio.timeout(10):
            size: int = struct.unpack(">I", await self._reader.readexactly(4))[0]
            return await self._reader.readexactly(size)

    async def receive(self) -> tuple[Route, Route, bytes]:
        """The next message: onward, return route and payload."""
        onward, back, payload = decode_message(memoryview(await self.frame()), RouteMemory())
        return Route(onward), Route(back), bytes(payload)

    async def ask(self, onward: Route, payload: bytes, *, back: str = "me") -> bytes:
        """Send and wait for the answer."""
        self.send(onward, Route.of(back), payload)
        return (await self.receive())[2]

    async def settle(self) -> None:
        """Wait until everything sent before has been handled; nothing else may have come back."""
        assert await self.ask(Route.of("echo"), b"settled?", back="settle") == b"settled?"


class Relay:
    """A node that relays, and where."""

    def __init__(self, host: Any, service: Any, listener: Any, wire: Any) -> None:
        self.host = host
        self.service = service
        self.listener = listener
        self.wire = wire
        self.port: int = listener.endpoint.host_port.port if wire is None else wire.port
        self.at = f"tcp:127.0.0.1:{self.port}"


@pytest.fixture
async def relay(net: Any) -> Callable[..., Awaitable[Relay]]:
    """Start a relay; ``wired`` shows every byte that crosses it."""

    async def start(*, wired: bool = False, may_register: Any = None, at: int = 0, **limits: Any) -> Relay:
        host = await net.node(**limits)
        listener = await host.listen(f"tcp:127.0.0.1:{at}")
        service = host.relay_service(may_register=may_register, open_to=[listener.flow])
        wire = await net.wire(listener.endpoint.host_port.port) if wired else None
        return Relay(host, service, listener, wire)

    return start


@pytest.fixture
async def raw() -> AsyncIterator[Callable[[int], Awaitable[Raw]]]:
    """Connect without a node."""
    made: list[Raw] = []

    async def connect(port: int) -> Raw:
        peer = Raw(*await asyncio.open_connection("127.0.0.1", port))
        made.append(peer)
        await peer.start()
        return peer

    yield connect
    for peer in made:
        peer.writer.transport.abort()


@pytest.fixture
async def registered(net: Any) -> Callable[..., Awaitable[tuple[Any, Any]]]:
    """Start a node that offers ``uppercase`` through a relay."""

    async def start(relay: Relay, name: str | None = "pi", **options: Any) -> tuple[Any, Any]:
        host = await net.node()
        host.uppercase()
        path = host.path(relay.at)
        remote = host.register(path, name=name, offer=options.pop("offer", ["uppercase"]))
        async with asyncio.timeout(10):
            await remote.registered()
        return host, remote

    return start
