"""What the contract of transports is run on, and the two ends of a link under it.

To put another transport under the contract, add a function to `KINDS` that describes it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from boards.emulation.air import Air, AirModel
from boards.emulation.line import MemoryLine
from ockamlite.cbor import bytes_head
from ockamlite.errors import DecodeError
from ockamlite.limits import LIMITS
from ockamlite.routing.codec import decode_message, encode_message_head
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.route import Route
from transports.ble import BleTransport
from transports.memory import MemoryNetwork, MemoryTransport
from transports.serial import SerialTransport
from transports.tcp import TcpTransport
from transports.udp import UdpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from boards.emulation.line import MemoryPort
    from ockamlite.errors import OckamError
    from ockamlite.limits import Limits
    from ockamlite.wire.gate import Gate
    from ockamlite.wire.link import Link, LinkListener, Transport
    from transports.serial.options import LineSettings

PATIENCE_S = 20.0
FAST_BAUD = 20_000_000
"""As fast as a line may be: these tests are of what arrives, not of when."""
SMALL = dataclasses.replace(
    LIMITS,
    message_bytes=2 * 1024 * 1024,
    reliable_message_bytes=2 * 1024 * 1024,
    link_stall_s=1.0,
)
HEAD = encode_message_head(Route.of("worker"), Route.of("asker"))
HEAD_BYTES = len(HEAD) + 5  # and the head of a long payload


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One transport, and what the contract must know of it."""

    name: str
    reliable: bool
    """True if every message arrives once and in order while the link lives."""
    transport: Callable[[Limits], Transport]
    """Makes a transport; those of one test find each other."""
    listen: str
    """Where a listener can be opened any number of times."""
    nowhere: Callable[[], str]
    """An endpoint where nobody listens."""
    hostile: Callable[[Endpoint, bytes], Awaitable[None]]
    """Sends bytes to a listener as a peer might that knows no rules."""
    sever: Callable[[Link, Link], None]
    """Breaks a link between its two ends, given both, so that at least the first must notice."""
    is_shared: bool = True
    """False if a listener has one link at a time."""


# -- the kinds -------------------------------------------------------------------------------------


def tcp() -> Kind:
    async def hostile(endpoint: Endpoint, data: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", endpoint.host_port.port)
        writer.write(data)
        writer.close()

    def sever(here: Any, there: Any) -> None:
        sock = there._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there._transport.abort()

    return Kind("tcp", True, TcpTransport, "tcp:127.0.0.1:0", free_port("tcp"), hostile, sever)


def udp() -> Kind:
    async def hostile(endpoint: Endpoint, data: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", endpoint.host_port.port))
            for size in (1, 40, 508):
                for at in range(0, len(data), size):
                    if not at // size % 64:
                        await asyncio.sleep(0)  # a flood that fills the buffer is another matter
                    try:
                        sock.send(data[at : at + size])
                    except ConnectionRefusedError:  # about an earlier one
                        pass

    def sever(here: Any, there: Any) -> None:
        there._port.close()
        here.send(HEAD, b"\x40")

    return Kind("udp", False, UdpTransport, "udp:127.0.0.1:0", free_port("udp"), hostile, sever)


def memory() -> Kind:
    network = MemoryNetwork()

    def transport(limits: Limits) -> Transport:
        return MemoryTransport(limits, network)

    async def hostile(endpoint: Endpoint, data: bytes) -> None:
        link = await transport(SMALL).connect(endpoint)
        link.send(data, b"")
        link.close()

    def sever(here: Link, there: Link) -> None:
        network.cut()

    return Kind("memory", True, transport, "memory:here", lambda: "memory:nowhere", hostile, sever)


def ble() -> Kind:
    air = Air(AirModel(interval_s=0.0005, packets_per_event=200, advertising_s=0.005), seed=1)

    def transport(limits: Limits) -> Transport:
        return BleTransport(limits, TwoAdapters(air), search_s=0.5)

    async def hostile(endpoint: Endpoint, data: bytes) -> None:
        radio, heard = air.radio(), []
        await radio.scan(lambda device: heard.append(device) is None)
        connection: Any = await radio.connect(heard[0])
        for at in range(0, len(data), 400):
            while not connection.writable_bytes():
                await asyncio.sleep(0.001)
            connection.write_frame(data[at : at + 400])
        connection.close()

    def sever(here: Any, there: Any) -> None:
        radio = there._shell._pipe._link
        radio.drop("the devices lost each other")

    return Kind("ble", True, transport, "ble:here", lambda: "ble:nowhere", hostile, sever)


class TwoAdapters:
    """A machine with an adapter for each role: one adapter alone does not hear itself."""

    def __init__(self, air: Air) -> None:
        central, peripheral = air.radio(), air.radio()
        self.scan, self.connect, self.serve = central.scan, central.connect, peripheral.serve


def serial() -> Kind:
    line = MemoryLine(("listening", "dialling"))

    def transport(limits: Limits) -> Transport:
        return Cabled(line, limits)

    async def hostile(endpoint: Endpoint, data: bytes) -> None:
        for at in range(0, len(data), 400):
            line.inject(0, data[at : at + 400])
            await asyncio.sleep(0)

    def sever(here: Link, there: Link) -> None:
        line.unplug(1)

    return Kind(
        "serial", True, transport, f"serial:cable?baud={FAST_BAUD}", lambda: "serial:nowhere", hostile, sever,
        is_shared=False,
    )  # fmt: skip


class Cabled:
    """A machine with a cable from one port to another: it listens at one end and dials from the other."""

    kind: ClassVar[str] = "serial"
    options: ClassVar[Collection[str]] = SerialTransport.options

    def __init__(self, line: MemoryLine, limits: Limits) -> None:
        self.listen = self._at("listening", line, limits).listen
        self.connect = self._at("dialling", line, limits).connect

    @staticmethod
    def _at(end: str, line: MemoryLine, limits: Limits) -> SerialTransport:
        def open_port(settings: LineSettings, protocol: asyncio.Protocol) -> Awaitable[MemoryPort]:
            there = settings.device == "cable"
            return line.open_port(dataclasses.replace(settings, device=end) if there else settings, protocol)

        return SerialTransport(limits, open_port=open_port)


KINDS = {"tcp": tcp, "udp": udp, "memory": memory, "ble": ble, "serial": serial}


def free_port(kind: str) -> Callable[[], str]:
    def find() -> str:
        with socket.socket(type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            return f"{kind}:127.0.0.1:{probe.getsockname()[1]}"

    return find


# -- two ends --------------------------------------------------------------------------------------


class End:
    """A receiver that keeps what its link brings."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.came: list[bytes] = []
        """Payloads, in the order of their arrival."""
        self.gate: Gate | None = None
        self.refuses: bytes | None = None
        """The payload that it takes for no message."""
        self.closed: list[OckamError | None] = []
        """What the end was reported with; more than one entry is a fault."""
        self.gaps = 0
        """How often it was told that messages are missing."""
        self._news = asyncio.Event()

    def frame_received(self, frame: memoryview) -> Gate | None:
        payload = bytes(decode_message(frame)[2])
        if payload == self.refuses:
            raise DecodeError("refused")
        self.came.append(payload)
        self._news.set()
        return self.gate

    def messages_lost(self) -> None:
        self.gaps += 1

    def link_closed(self, error: OckamError | None) -> None:
        self.closed.append(error)
        self._news.set()

    def send(self, payload: bytes) -> Gate | None:
        return self.link.send(HEAD + bytes_head(len(payload)), payload)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds that only news of this end can make true."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def end(self) -> OckamError | None:
        """What the link ended with."""
        await self.until(lambda: self.closed)
        return self.closed[0]


class Contract:
    """A transport under test, and links of it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.transport = kind.transport(SMALL)
        self.listener: LinkListener | None = None
        self.accepted: list[End] = []
        self._ends: list[End] = []
        self._news = asyncio.Event()

    async def listen(self, at: str | None = None) -> Endpoint:
        self.listener = await self.transport.listen(Endpoint.parse(at or self.kind.listen), self._accept)
        return self.listener.endpoint

    def _accept(self, link: Link) -> None:
        end = End(link)
        self.accepted.append(end)
        self._ends.append(end)
        link.start(end)
        self._news.set()

    async def dial(self, endpoint: Endpoint) -> End:
        end = End(await self.kind.transport(SMALL).connect(endpoint))
        self._ends.append(end)
        end.link.start(end)
        return end

    async def pair(self) -> tuple[End, End]:
        """Both ends of a new link: who dialled, who listens."""
        endpoint = self.listener.endpoint if self.listener is not None else await self.listen()
        known = len(self.accepted)
        here = await self.dial(endpoint)
        here.send(b"first")  # a link over datagrams begins with its first message
        async with asyncio.timeout(PATIENCE_S):
            while len(self.accepted) == known:
                self._news.clear()
                await self._news.wait()
        there = self.accepted[known]
        await there.until(lambda: there.came == [b"first"])
        there.came.clear()
        return here, there

    async def close(self) -> None:
        for end in self._ends:
            end.link.close()
        if self.listener is not None:
            await self.listener.close()
        for end in self._ends:
            await end.end()
        assert all(len(end.closed) == 1 for end in self._ends), "a link ended twice"


def descriptors() -> int:
    """How many sockets this process has open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith(("socket:", "/dev/p"))
        except OSError:
            pass
    return found


@pytest.fixture(params=KINDS)
async def contract(request: pytest.FixtureRequest) -> AsyncIterator[Contract]:
    """One transport; after the test every link has ended once and no descriptor or task is left."""
    tasks, before = asyncio.all_tasks(), descriptors()
    made = Contract(KINDS[request.param]())
    yield made
    await made.close()
    async with asyncio.timeout(PATIENCE_S):
        while descriptors() > before or asyncio.all_tasks() - tasks - {asyncio.current_task()}:
            await asyncio.sleep(0.001)


@pytest.fixture
def reliable(contract: Contract) -> Contract:
    """The same, where every message arrives once and in order; others promise neither and are skipped."""
    if not contract.kind.reliable:
        pytest.skip(f"{contract.kind.name} promises neither order nor arrival")
    return contract


@pytest.fixture
def largest_payload() -> int:
    """The longest payload that makes a message of the longest length."""
    return SMALL.message_bytes - HEAD_BYTES


@pytest.fixture
def garbage() -> bytes:
    """Bytes without sense, the same each time."""
    return random.Random(7).randbytes(20_000)
