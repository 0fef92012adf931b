"""The TCP transport: Ockam's version byte and frames on real sockets, and what bad peers get."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import socket
import struct
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from ockamlite.errors import DecodeError, LinkBrokenError, LinkClosedError, UnavailableError
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.endpoint import Endpoint
from ockamlite.wire.gate import Gate
from transports.tcp import TcpLink, TcpTransport, _Shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ockamlite.errors import OckamError
    from ockamlite.wire.link import Link

QUICK = dataclasses.replace(LIMITS, link_hello_s=0.2, link_stall_s=0.3)


class Receiver:
    """Keeps what a link brings."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.gate: Gate | None = None
        self.came = asyncio.Event()
        self.closed: asyncio.Future[OckamError | None] = asyncio.get_running_loop().create_future()

    def frame_received(self, frame: memoryview) -> Gate | None:
        self.frames.append(bytes(frame))
        self.came.set()
        return self.gate

    def messages_lost(self) -> None:
        raise AssertionError("links of this kind lose nothing")

    def link_closed(self, error: OckamError | None) -> None:
        self.closed.set_result(error)

    async def wait_frames(self, count: int) -> list[bytes]:
        while len(self.frames) < count:
            self.came.clear()
            await self.came.wait()
        return self.frames


class Accepting:
    """A listener and what it accepted."""

    def __init__(self, limits: object = LIMITS) -> None:
        self.transport = TcpTransport(limits)  # type: ignore[arg-type]
        self.receivers: list[Receiver] = []
        self.links: list[Link] = []
        self.accepted = asyncio.Event()

    async def start(self, where: str = "tcp:127.0.0.1:0") -> int:
        self.listener = await self.transport.listen(Endpoint.parse(where), self.accept)
        return self.listener.endpoint.host_port.port

    def accept(self, link: Link) -> None:
        receiver = Receiver()
        self.receivers.append(receiver)
        self.links.append(link)
        self.accepted.set()
        link.start(receiver)

    async def first(self) -> Receiver:
        await self.accepted.wait()
        return self.receivers[0]


@pytest.fixture
async def accepting() -> AsyncIterator[Accepting]:
    listening = Accepting()
    await listening.start()
    yield listening
    await listening.listener.close()
    for link in listening.links:
        link.close()


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


async def raw(accepting: Accepting) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", accepting.listener.endpoint.host_port.port)


async def test_both_ends_send_the_version_byte_at_once(accepting: Accepting) -> None:
    reader, writer = await raw(accepting)
    assert await reader.readexactly(1) == b"\x01"
    writer.close()


async def test_frames_arrive_whole_in_order_and_once_however_they_are_cut(accepting: Accepting) -> None:
    bodies = [b"a", b"b" * 300, b"c" * 100_000, b"d"]
    stream = b"\x01" + b"".join(frame(body) for body in bodies)
    _, writer = await raw(accepting)
    for at in range(40):
        writer.write(stream[at : at + 1])
        await writer.drain()
    writer.write(stream[40:])
    receiver = await accepting.first()
    assert await receiver.wait_frames(4) == bodies
    writer.close()
    assert isinstance(await receiver.closed, LinkClosedError)


async def test_a_frame_longer_than_the_read_buffer_arrives_whole(accepting: Accepting) -> None:
    body = bytes(range(256)) * 4096 * 3
    _, writer = await raw(accepting)
    writer.write(b"\x01" + frame(body) + frame(b"next"))
    receiver = await accepting.first()
    assert await receiver.wait_frames(2) == [body, b"next"]
    writer.close()


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"\x02"])
async def test_another_protocol_is_told_by_its_first_byte_and_closed(
    accepting: Accepting, first: bytes
) -> None:
    reader, writer = await raw(accepting)
    writer.write(first)
    receiver = await accepting.first()
    error = await receiver.closed
    assert isinstance(error, DecodeError)
    assert f"{first[0]:#04x}" in str(error)
    await reader.read()
    writer.close()


@pytest.mark.parametrize("length", [0, LIMITS.message_bytes + 1, 0xFFFFFFFF])
async def test_a_frame_of_impossible_length_closes_the_link(accepting: Accepting, length: int) -> None:
    _, writer = await raw(accepting)
    writer.write(b"\x01" + struct.pack(">I", length))
    receiver = await accepting.first()
    assert isinstance(await receiver.closed, DecodeError)
    writer.close()


async def test_the_end_in_the_middle_of_a_frame_is_said(accepting: Accepting) -> None:
    _, writer = await raw(accepting)
    writer.write(b"\x01" + frame(b"whole") + struct.pack(">I", 100) + b"half")
    receiver = await accepting.first()
    await receiver.wait_frames(1)
    writer.close()
    assert "in the middle of a frame" in str(await receiver.closed)


async def test_a_peer_that_says_nothing_is_closed_after_a_while() -> None:
    accepting = Accepting(QUICK)
    await accepting.start()
    _, writer = await raw(accepting)
    receiver = await accepting.first()
    assert "version byte" in str(await receiver.closed)
    writer.close()
    await accepting.listener.close()


async def test_a_closed_gate_holds_the_link_and_nothing_is_lost(accepting: Accepting) -> None:
    _, writer = await raw(accepting)
    writer.write(b"\x01")
    receiver = await accepting.first()
    receiver.gate = Gate(asyncio.get_running_loop())
    receiver.gate.shut()
    writer.write(b"".join(frame(bytes([n]) * 50_000) for n in range(100)))
    await receiver.wait_frames(1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(receiver.frames) == 1
    receiver.gate.open()
    receiver.gate = None
    assert [f[0] for f in await receiver.wait_frames(100)] == list(range(100))
    writer.close()


async def test_a_peer_that_never_reads_shuts_the_gate_and_is_given_up() -> None:
    accepting = Accepting(QUICK)
    port = await accepting.start()
    lazy = socket.create_connection(("127.0.0.1", port))
    lazy.sendall(b"\x01")
    receiver = await accepting.first()
    link = accepting.links[0]
    while (gate := link.send(b"", bytes(65_536))) is None:
        pass
    assert gate.is_shut
    error = await receiver.closed
    assert isinstance(error, LinkBrokenError)
    assert "took nothing" in str(error)
    assert not gate.is_shut
    assert link.send(b"", b"after the end") is None
    lazy.close()
    await accepting.listener.close()


async def test_two_links_carry_frames_both_ways(accepting: Accepting) -> None:
    transport = TcpTransport(LIMITS)
    link = await transport.connect(Endpoint.parse(str(accepting.listener.endpoint)))
    here = Receiver()
    link.start(here)
    link.send(b"he", b"llo")
    there = await accepting.first()
    assert await there.wait_frames(1) == [b"hello"]
    accepting.links[0].send(b"", b"back")
    assert await here.wait_frames(1) == [b"back"]
    link.close()
    assert await here.closed is None
    assert isinstance(await there.closed, LinkClosedError)


async def test_both_ends_notice_a_peer_that_vanished_within_half_a_minute(accepting: Accepting) -> None:
    at = f"tcp:127.0.0.1:{accepting.listener.endpoint.host_port.port}"
    dialled = await accepting.transport.connect(Endpoint.parse(at))
    dialled.start(Receiver())
    await accepting.first()
    for link in (dialled, accepting.links[0]):
        assert isinstance(link, TcpLink)
        assert link._transport is not None
        sock = link._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, between, count = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + between * count <= 30
    dialled.close()


async def test_ipv6_and_names_are_dialled() -> None:
    accepting = Accepting()
    try:
        port = await accepting.start("tcp:[::1]:0")
    except UnavailableError:
        pytest.skip("this machine has no IPv6 loopback")
    assert str(accepting.listener.endpoint) == f"tcp:[::1]:{port}"
    link = await accepting.transport.connect(Endpoint.parse(f"tcp:[::1]:{port}"))
    link.start(Receiver())
    assert link.remote == f"[::1]:{port}"
    link.close()
    await accepting.listener.close()
    accepting = Accepting()
    port = await accepting.start()
    link = await accepting.transport.connect(Endpoint.parse(f"tcp:localhost:{port}"))
    link.start(Receiver())
    link.close()
    await accepting.listener.close()


async def test_a_refused_or_unknown_host_says_so() -> None:
    transport = TcpTransport(LIMITS)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UnavailableError, match="connection refused"):
        await transport.connect(Endpoint.parse(f"tcp:127.0.0.1:{port}"))
    with pytest.raises(UnavailableError, match="host unknown|failure|resolution"):
        await transport.connect(Endpoint.parse("tcp:no-such-host.invalid:1"))


async def test_a_port_in_use_names_the_port_and_its_holder(accepting: Accepting) -> None:
    port = accepting.listener.endpoint.host_port.port
    with pytest.raises(UnavailableError, match=rf"port {port} is in use by .* \(pid \d+\)"):
        await TcpTransport(LIMITS).listen(Endpoint.parse(f"tcp:127.0.0.1:{port}"), lambda _: None)


class Pipe:
    """The socket transport of a link under test, and the clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waiting = 0
        self.aborted = False

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: object) -> None:
        pass

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes) -> None:
        self.waiting += len(data)

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def is_closing(self) -> bool:
        return self.aborted


@pytest.mark.parametrize(("bytes_per_s", "lives"), [(1000, False), (2000, False), (4000, True)])
async def test_a_slow_peer_lives_if_it_takes_a_buffers_worth_in_the_time_of_a_stall(
    monkeypatch: pytest.MonkeyPatch, bytes_per_s: int, lives: bool
) -> None:
    monkeypatch.setattr(asyncio, "Transport", Pipe)
    pipe = Pipe()
    link = TcpLink("tcp:here", _Shared(LIMITS), LIMITS, accept=None)
    link._loop = pipe  # type: ignore[assignment]
    link._gate = Gate(pipe)  # type: ignore[arg-type]
    link.connection_made(pipe)  # type: ignore[arg-type]
    link._version_seen = True
    link._began = math.inf
    assert link.send(b"", bytes(LIMITS.link_buffer_bytes)) is None
    link.pause_writing()
    for _ in range(200):
        pipe.now += 1
        pipe.waiting -= bytes_per_s
        link.send(b"", bytes(bytes_per_s - 4))
        link._look()
    assert pipe.aborted is not lives


async def test_unfinished_long_frames_give_way_oldest_first_and_others_arrive() -> None:
    accepting = Accepting(dataclasses.replace(LIMITS, long_frames_bytes=5 * 1024 * 1024))
    await accepting.start()
    begun = []
    for _ in range(4):
        reader, writer = await raw(accepting)
        writer.write(b"\x01" + struct.pack(">I", LIMITS.message_bytes) + bytes(1_040_000))
        begun.append((reader, writer))
    while sum(accepting.transport._links._shared.long.values()) < 4 * 1024 * 1024:
        await asyncio.sleep(0)
    oldest = next(iter(accepting.transport._links._shared.long))
    _, writer = await raw(accepting)
    body = bytes(3_000_000)
    writer.write(b"\x01" + frame(body))
    while len(accepting.receivers) < 5:
        await asyncio.sleep(0)
    assert await accepting.receivers[4].wait_frames(1) == [body]
    gone = [receiver.closed.result() for receiver in accepting.receivers if receiver.closed.done()]
    assert 1 <= len(gone) <= 3
    assert all("more long messages" in str(error) for error in gone)
    assert oldest._closing
    for _, each in [*begun, (None, writer)]:
        each.close()
    for receiver in accepting.receivers:
        await receiver.closed
    assert accepting.transport._links._shared.room == 5 * 1024 * 1024
    assert not accepting.transport._links._shared.long
    await accepting.listener.close()


async def test_the_host_that_takes_most_of_the_room_for_long_frames_loses_its_own() -> None:
    shared = _Shared(dataclasses.replace(LIMITS, long_frames_bytes=1_000_000))
    pipes = [Pipe() for _ in range(5)]
    links = [TcpLink("tcp:here", shared, LIMITS, accept=None) for _ in pipes]
    for number, (link, pipe) in enumerate(zip(links, pipes, strict=True)):
        link._transport = pipe  # type: ignore[assignment]
        link.host = "192.0.2.1" if number else "192.0.2.2"
        link._long_whole = 300_000
        link._grow_long(bytearray(120_000))
    assert [pipe.aborted for pipe in pipes] == [False, True, False, False, False]
    assert shared.room == 1_000_000 - 4 * 240_000


SERVES_WITH_FEW_DESCRIPTORS = """
import asyncio, resource
from ockamlite import Node

async def main():
    async with Node() as node:
        links = await node.listen("tcp:127.0.0.1:0")
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        print(links.endpoint, flush=True)
        await node.until_interrupted()

asyncio.run(main())
"""


async def test_a_program_without_descriptors_left_is_told_seldom_and_serves_on() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVES_WITH_FEW_DESCRIPTORS, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        at = (await process.stdout.readline()).decode().strip()
        port = int(at.rpartition(":")[2])
        strangers = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(150)]
        said = await process.stderr.readuntil(b"Too many open files")
        for stranger in strangers:
            stranger.close()
        async with asyncio.timeout(10), Node() as node:
            link = await node.connect(at)
            assert (await node.ask(link.route / "echo", b"x")).payload == b"x"
        process.terminate()
        said += await process.stderr.read()
        assert await process.wait() == 0
        assert said.count(b"Too many open files") < 20
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
