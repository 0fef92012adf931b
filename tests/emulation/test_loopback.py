"""The loopback of made-up time: what applications write arrives as it would by TCP, without a socket."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.clock import RealTimeError, run
from ockamlite import Node, TrustEveryone
from ockamlite.errors import UnavailableError
from ockamlite.events import Refused
from ockamlite.limits import LIMITS
from ockamlite.portals import inlet, outlet
from transports.memory import MemoryNetwork, MemoryTransport
from transports.tcp import TcpTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LONG = bytes(range(256)) * 4096


async def served(serve: Serve) -> int:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    writer.close()


async def portal(target: int, **node_options: Any) -> tuple[Node, Node, int]:
    """A node with an outlet to ``target``, one with an inlet to it, and the inlet's port."""
    network = MemoryNetwork()
    far, near = (Node(transports=[MemoryTransport(LIMITS, network)], **node_options) for _ in range(2))
    await far.__aenter__()
    await near.__aenter__()
    listener = await far.listen("memory:far")
    channels = far.secure_channel_listener(trust=TrustEveryone())
    far.open(channels.address, listener)
    far.open(far.outlet(f"tcp:127.0.0.1:{target}").address, channels)
    path = near.path("memory:far,secure:secure_channel_listener,outlet", trust=TrustEveryone())
    await path.wait(10)
    return far, near, (await near.inlet("tcp:127.0.0.1:0", path)).port


async def closed(*nodes: Node) -> None:
    for node in nodes:
        await node.close()


@pytest.mark.parametrize("through", ["directly", "a portal"])
def test_what_is_written_is_read_and_its_end_after_it(through: str) -> None:
    async def body() -> None:
        port, nodes = await served(echo), ()
        if through == "a portal":
            *nodes, port = await portal(port)  # type: ignore[assignment]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LONG)
        writer.write_eof()
        assert await reader.read() == LONG
        writer.close()
        await writer.wait_closed()
        await closed(*nodes)

    run(body())


@pytest.mark.parametrize("through", ["directly", "a portal"])
def test_who_is_not_read_has_to_wait(through: str) -> None:
    async def body() -> None:
        go_on = asyncio.Event()
        got = bytearray()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go_on.wait()
            while data := await reader.read(65_536):
                got.extend(data)
            writer.close()

        port, nodes = await served(slow), ()
        if through == "a portal":
            *nodes, port = await portal(port)  # type: ignore[assignment]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = 0

        async def send() -> None:
            nonlocal sent
            for start in range(0, 8 * len(LONG), 65_536):
                writer.write((LONG * 8)[start : start + 65_536])
                await writer.drain()
                sent += 65_536
            writer.write_eof()

        sending = asyncio.create_task(send())
        await asyncio.sleep(3)
        assert sent < 4 * len(LONG)
        assert not got
        go_on.set()
        await sending
        assert await reader.read() == b""
        assert got == LONG * 8
        writer.close()
        await closed(*nodes)

    run(body())


@pytest.mark.parametrize("through", ["directly", "a portal"])
def test_an_end_without_warning_is_an_error_at_the_other(through: str) -> None:
    async def body() -> None:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(2) == b"hi"
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            failed.set_result(None)

        port, nodes = await served(serve), ()
        if through == "a portal":
            *nodes, port = await portal(port)  # type: ignore[assignment]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hi")
        await asyncio.sleep(1)
        writer.transport.abort()
        await asyncio.wait_for(failed, 10)
        await closed(*nodes)

    run(body())


def test_who_closes_without_reading_resets_who_writes() -> None:
    async def body() -> None:
        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(1)
            writer.close()

        reader, writer = await asyncio.open_connection("127.0.0.1", await served(rude))
        writer.write(LONG)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.write(b"more")
        with pytest.raises(ConnectionResetError):
            await writer.drain()

    run(body())


def test_what_was_written_before_the_close_arrives() -> None:
    async def body() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(LONG)
            writer.close()
            assert await reader.read() == b""

        reader, writer = await asyncio.open_connection("127.0.0.1", await served(serve))
        assert await reader.read() == LONG
        writer.close()

    run(body())


def test_nobody_is_reached_who_is_not_served_by_the_same_loop() -> None:
    async def body() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RealTimeError):
            await asyncio.open_connection("192.0.2.1", port)
        with pytest.raises(OSError, match="in use"):
            await asyncio.start_server(echo, "127.0.0.1", port)
        with pytest.raises(OSError) as elsewhere:
            await asyncio.start_server(echo, "192.0.2.1", 0)
        assert elsewhere.value.errno == errno.EADDRNOTAVAIL
        server.close()
        await server.wait_closed()
        with pytest.raises(RealTimeError):
            await asyncio.open_connection("127.0.0.1", port)

    run(body())


def test_a_portal_says_what_its_loopback_cannot_do() -> None:
    async def body() -> None:
        seen: list[Any] = []
        far, near, port = await portal(9, on_event=seen.append)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        refused = [event.reason for event in seen if isinstance(event, Refused)]
        assert any("under the same virtual clock" in reason for reason in refused)
        path = near.path("memory:far")
        with pytest.raises(UnavailableError, match=f"port {port} is in use"):
            await near.inlet(f"tcp:127.0.0.1:{port}", path)
        await closed(far, near)

    run(body())


def test_links_over_tcp_run_in_made_up_time() -> None:
    async def body() -> None:
        async with (
            Node(transports=[TcpTransport(LIMITS)]) as here,
            Node(transports=[TcpTransport(LIMITS)]) as there,
        ):
            listener = await there.listen("tcp:127.0.0.1:0")
            link = await here.connect(str(listener.endpoint))
            for size in (0, 1, 500_000):
                assert (await here.ask(link.route / "echo", b"x" * size)).payload == b"x" * size
            await asyncio.sleep(3600)
            assert not link.closed.done()

    run(body())


def test_portals_have_sockets_again_afterwards() -> None:
    def found() -> tuple[Any, Any]:
        near: Any = inlet
        far: Any = outlet
        return near.Acceptor, far.Dial

    async def body() -> None:
        assert found() != kept

    kept = found()
    run(body())
    assert found() == kept
