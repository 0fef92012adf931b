"""Lines and what is at their ends."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.line import MemoryLine
from ockamlite.cbor import bytes_head
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.serial import SerialTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.errors import OckamError
    from ockamlite.limits import Limits
    from ockamlite.wire.gate import Gate
    from ockamlite.wire.link import Link
    from transports.serial.port import OpenPort

HEAD = bytes.fromhex("83 81 82 00 41 61 80")
"""The beginning of a routing message to the address ``0#a``, without a return route."""


class Receiver:
    """Keeps what a link brings."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.messages: list[bytes] = []
        self.gates: deque[Gate] = deque()
        """For the next messages, one each."""
        self.closed: asyncio.Future[OckamError | None] = asyncio.get_running_loop().create_future()
        self._came = asyncio.Event()

    def frame_received(self, frame: memoryview) -> Gate | None:
        self.messages.append(bytes(frame))
        self._came.set()
        return self.gates.popleft() if self.gates else None

    def messages_lost(self) -> None:
        raise AssertionError("links of this kind lose nothing")

    def link_closed(self, error: OckamError | None) -> None:
        self.closed.set_result(error)

    async def wait(self, count: int = 1) -> list[bytes]:
        while len(self.messages) < count:
            self._came.clear()
            await self._came.wait()
        return self.messages

    def send(self, payload: bytes, head: bytes = HEAD) -> Gate | None:
        return self.link.send(head + bytes_head(len(payload)), payload)


def message(payload: bytes) -> bytes:
    """What arrives when ``payload`` was sent."""
    return HEAD + bytes_head(len(payload)) + payload


class End:
    """A transport at one end of a line."""

    def __init__(
        self, device: str, open_port: OpenPort | None, query: str = "", limits: Limits = LIMITS
    ) -> None:
        self.endpoint = Endpoint.parse(f"serial:{device}{query}")
        options: dict[str, Any] = {} if open_port is None else {"open_port": open_port}
        self.transport = SerialTransport(limits, **options)
        self.receivers: list[Receiver] = []
        self.listener: Any = None
        self._accepted = asyncio.Event()

    async def connect(self) -> Receiver:
        link = await self.transport.connect(self.endpoint)
        receiver = Receiver(link)
        link.start(receiver)
        return receiver

    async def listen(self) -> None:
        self.listener = await self.transport.listen(self.endpoint, self.accept)

    def accept(self, link: Link) -> None:
        receiver = Receiver(link)
        self.receivers.append(receiver)
        link.start(receiver)
        self._accepted.set()

    async def accepted(self, number: int = 1) -> Receiver:
        while len(self.receivers) < number:
            self._accepted.clear()
            await self._accepted.wait()
        return self.receivers[number - 1]

    async def close(self) -> None:
        if self.listener is not None:
            await self.listener.close()
        for receiver in self.receivers:
            receiver.link.close()
            await receiver.closed


class Pair:
    """A line in memory, somebody who listens at its end a, and somebody who dials from its end b."""

    def __init__(self, line: MemoryLine | None = None, a: str = "", b: str = "") -> None:
        self.line = line or MemoryLine()
        self.a = End("a", self.line.open_port, a)
        self.b = End("b", self.line.open_port, b)

    async def up(self) -> tuple[Receiver, Receiver]:
        """Bring a link up; its ends at a and b."""
        await self.a.listen()
        there = await self.b.connect()
        return await self.a.accepted(), there

    async def close(self) -> None:
        await self.a.close()


@pytest.fixture
def pair() -> type[Pair]:
    """Makes a line in memory with both ends; call it inside of the loop."""
    return Pair


@pytest.fixture
def end() -> type[End]:
    """Makes one end; call it inside of the loop."""
    return End


@pytest.fixture
def whole() -> Callable[[bytes], bytes]:
    """The message that arrives when a payload was sent."""
    return message
