"""Connections through portals: how they begin, carry bytes and end, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import UnavailableError
from ockamlite.routing.address import random_address
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable

MEBIBYTE = 1024 * 1024
GIBIBYTE_WANTED = os.environ.get("OCKAMLITE_TEST_GIBIBYTE")


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


async def ends(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """What comes until the end, and whether the end was a good one."""
    found = b""
    try:
        while data := await reader.read(65_536):
            found += data
    except ConnectionError:
        return found, False
    return found, True


# -- beginnings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [True, False], ids=["secure", "plain"])
async def test_bytes_go_both_ways(net: Any, secure: bool) -> None:
    portal = await net.portal(await net.echo(), secure=secure)
    reader, writer = await portal.client()
    for size in (1, 100, 48 * 1024, 100_000):
        data = os.urandom(size)
        writer.write(data)
        assert await reader.readexactly(size) == data
    writer.close()
    await portal.is_clean()
    closed = await portal.laptop.event("session-close")
    assert closed.sent_bytes == closed.received_bytes == 1 + 100 + 48 * 1024 + 100_000


async def test_a_portal_within_one_node_needs_no_link(net: Any, until: Any) -> None:
    node = await net.node()
    outlet = node.outlet(f"tcp:127.0.0.1:{await net.echo()}")
    inlet = await node.inlet("tcp:127.0.0.1:0", Route.of("outlet"))
    before = len(node.router)
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    writer.write(b"hello" * 100_000)
    writer.write_eof()
    assert await ends(reader) == (b"hello" * 100_000, True)
    writer.close()
    await until(lambda: not inlet.sessions and not outlet.sessions and len(node.router) == before)
    assert not node.events("link-up")


async def test_a_server_may_speak_first(net: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        assert await reader.readline() == b"QUIT\r\n"

    portal = await net.portal(await net.serve(serve))
    reader, writer = await portal.client()
    assert await reader.readline() == b"220 ready\r\n"
    writer.write(b"QUIT\r\n")
    assert await ends(reader) == (b"", True)
    writer.close()
    await portal.is_clean()


async def test_a_target_that_refuses_closes_the_client_with_the_reason(net: Any) -> None:
    port = free_port()
    portal = await net.portal(port)
    reader, writer = await portal.client()
    assert (await ends(reader))[0] == b""
    writer.close()
    refused = await portal.gateway.event("refused")
    assert refused.at == f"tcp:127.0.0.1:{port}"
    assert refused.peer == str(portal.laptop.identity.identifier)
    assert "connection refused" in refused.reason
    assert "could not reach its target" in (await portal.laptop.event("refused")).reason
    await portal.is_clean()
    assert not portal.laptop.events("session-open")


async def test_a_target_that_never_accepts_closes_the_client_in_time(net: Any) -> None:
    busy = await net.busy()
    portal = await net.portal(busy.port, portal_connect_s=0.2)
    reader, writer = await portal.client()
    assert (await ends(reader))[0] == b""
    writer.close()
    await portal.laptop.event("refused")
    assert "no answer within 0.2 s" in (await portal.gateway.event("refused")).reason
    await portal.is_clean()


async def test_a_target_that_accepts_slowly_is_waited_for(net: Any, until: Any) -> None:
    busy = await net.busy()
    portal = await net.portal(busy.port)
    reader, writer = await portal.client()
    writer.write(b"early")
    await until(lambda: portal.outlet.sessions)
    await busy.accept()
    assert await reader.readexactly(5) == b"early"
    writer.close()
    await portal.is_clean()


async def test_a_target_name_is_resolved_for_each_connection(net: Any, monkeypatch: Any) -> None:
    port = await net.echo()
    portal = await net.portal(port)
    portal.outlet.target = type(portal.outlet.target)("late.example", port)
    loop = asyncio.get_running_loop()
    known: list[Any] = []
    resolve = loop.getaddrinfo

    async def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if host != "late.example":
            return await resolve(host, *args, **options)
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return known

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    reader, writer = await portal.client()
    assert (await ends(reader))[0] == b""
    writer.close()
    assert "late.example" in (refused := await portal.gateway.event("refused")).reason
    assert "host unknown" in refused.reason
    known.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)))
    reader, writer = await portal.client()
    writer.write(b"found")
    assert await reader.readexactly(5) == b"found"
    writer.close()
    await portal.is_clean()


async def test_a_name_whose_first_address_is_dead_is_reached_at_its_second(
    net: Any, monkeypatch: Any
) -> None:
    port = await net.echo()
    portal = await net.portal(port)
    portal.outlet.target = type(portal.outlet.target)("two.example", port)
    loop = asyncio.get_running_loop()

    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port()))
        return [dead, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    with socket.create_connection(("127.0.0.1", portal.inlet.port)) as client:
        client.setblocking(False)
        await loop.sock_sendall(client, b"hello")
        assert await loop.sock_recv(client, 5) == b"hello"
    await portal.is_clean()


async def test_a_port_in_use_is_named_with_its_holder(net: Any) -> None:
    port = await net.echo()
    node = await net.node()
    with pytest.raises(UnavailableError, match=rf"port {port} is in use by .* \(pid \d+\)"):
        await node.inlet(f"tcp:127.0.0.1:{port}", Route.of("outlet"))


async def test_five_hundred_connections_at_once_are_all_served(net: Any) -> None:
    portal = await net.portal(await net.echo(), portal_connect_s=30.0)

    async def talk(number: int) -> bool:
        reader, writer = await portal.client()
        data = number.to_bytes(2, "big") * 1000
        writer.write(data)
        writer.write_eof()
        answer = await ends(reader)
        writer.close()
        return answer == (data, True)

    assert all(await asyncio.gather(*(talk(number) for number in range(500))))
    await portal.is_clean()
    assert len(portal.laptop.events("session-close")) == 500


async def test_more_connections_than_allowed_are_turned_away(net: Any) -> None:
    portal = await net.portal(await net.echo(), portal_connections=2)
    open_ = [await portal.client() for _ in range(2)]
    await portal.gateway.event("session-open", 2)
    reader, writer = await portal.client()
    assert (await ends(reader))[0] == b""
    assert "2 connections are open already" in (await portal.laptop.event("refused")).reason
    for _, each in (*open_, (reader, writer)):
        each.close()
    await portal.is_clean()
    reader, writer = await portal.client()
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"
    writer.close()
    await portal.is_clean()


# -- clients that leave early ----------------------------------------------------------------------


async def test_a_client_that_leaves_before_its_outlet_answers_leaves_nothing(net: Any, until: Any) -> None:
    busy = await net.busy()
    portal = await net.portal(busy.port)
    _, writer = await portal.client()
    await until(lambda: portal.outlet.sessions)
    writer.close()
    await writer.wait_closed()
    await busy.accept()
    await portal.gateway.event("session-close")
    await portal.is_clean()


async def test_a_client_that_resets_right_after_connecting_leaves_nothing(net: Any, reset: Any) -> None:
    portal = await net.portal(await net.echo())
    for _ in range(20):
        _, writer = await portal.client()
        reset(writer)
    await portal.gateway.event("session-close", 20)
    await portal.is_clean()


async def test_a_client_that_resets_in_mid_transfer_ends_the_target_with_an_error(
    net: Any, reset: Any
) -> None:
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        except ConnectionError as error:
            ended.set_result(error)
            raise

    portal = await net.portal(await net.serve(serve))
    reader, writer = await portal.client()
    await reader.readexactly(1_000_000)
    reset(writer)
    assert isinstance(await ended, ConnectionError)
    assert "reset by the application" in (await portal.laptop.event("session-close")).reason
    assert "reset by the peer" in (await portal.gateway.event("session-close")).reason
    await portal.is_clean()


async def test_a_client_that_is_gone_when_its_end_comes_costs_the_others_nothing(
    net: Any, reset: Any, monkeypatch: Any
) -> None:
    """The transport of a target found by its name tells so by an error of the system."""
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"q":
            return
        writer.write(await reader.readexactly(1))
        await go_on.wait()

    portal = await net.portal(await net.serve(serve))
    reader, writer = await portal.client()
    other_reader, other_writer = await portal.client()
    await portal.laptop.event("session-open", 2)

    def gone() -> None:
        raise OSError(107, "not connected")

    session = min(portal.inlet.sessions, key=lambda found: found.number)
    monkeypatch.setattr(session._transport, "write_eof", gone)
    writer.write(b"q")
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    other_writer.write(b"xy")
    assert await other_reader.readexactly(1) == b"y"
    assert portal.path.current is not None
    go_on.set()
    other_writer.close()
    await portal.is_clean()


async def test_a_client_that_closes_in_mid_download_ends_the_target_soon(net: Any) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        finally:
            ended.set()

    portal = await net.portal(await net.serve(serve))
    reader, writer = await portal.client()
    await reader.readexactly(1_000_000)
    writer.close()
    await ended.wait()
    await portal.is_clean()


async def test_a_target_that_resets_gives_the_client_an_error(net: Any, reset: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half of")
        await reader.readexactly(1)
        reset(writer)

    portal = await net.portal(await net.serve(serve))
    reader, writer = await portal.client()
    assert await reader.readexactly(7) == b"half of"
    writer.write(b"x")
    await portal.gateway.event("session-close")
    writer.close()
    assert portal.gateway.events("session-close")[0].reason == "reset by the application"
    assert (await portal.laptop.event("session-close")).reason == "reset by the peer"
    await portal.is_clean()


# -- amounts ---------------------------------------------------------------------------------------


def digest_of(blocks: int, block: bytes) -> bytes:
    digest = hashlib.sha256()
    for number in range(blocks):
        digest.update(number.to_bytes(8, "big"))
        digest.update(block)
    return digest.digest()


async def send_all(writer: asyncio.StreamWriter, blocks: int, block: bytes) -> None:
    for number in range(blocks):
        writer.write(number.to_bytes(8, "big") + block)
        await writer.drain()
    writer.write_eof()


async def digest_all(reader: asyncio.StreamReader) -> bytes:
    digest = hashlib.sha256()
    while data := await reader.read(262_144):
        digest.update(data)
    return digest.digest()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "mebibytes",
    [
        64,
        pytest.param(
            1024,
            marks=pytest.mark.skipif(
                not GIBIBYTE_WANTED, reason="set OCKAMLITE_TEST_GIBIBYTE=1 for 1 GiB each way"
            ),
        ),
    ],
)
async def test_a_large_transfer_both_ways_at_once_is_exact(net: Any, mebibytes: int) -> None:
    block = os.urandom(MEBIBYTE - 8)
    expected = digest_of(mebibytes, block)
    at_target: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sending = asyncio.ensure_future(send_all(writer, mebibytes, block))
        at_target.set_result(await digest_all(reader))
        await sending

    portal = await net.portal(await net.serve(serve))
    reader, writer = await portal.client()
    sending = asyncio.ensure_future(send_all(writer, mebibytes, block))
    assert await digest_all(reader) == expected
    assert await at_target == expected
    await sending
    writer.close()
    await portal.is_clean()
    closed = await portal.laptop.event("session-close")
    assert closed.sent_bytes == closed.received_bytes == mebibytes * MEBIBYTE


# -- ends of one side ------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [True, False], ids=["secure", "plain"])
async def test_a_client_that_has_written_all_still_gets_the_whole_answer(net: Any, secure: bool) -> None:
    asked = asyncio.Event()
    answer = os.urandom(3 * MEBIBYTE)
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"question"
        asked.set()
        await go_on.wait()
        writer.write(answer)
        await writer.drain()

    # An answer may take longer than an end with everybody else does.
    portal = await net.portal(await net.serve(serve), secure=secure, portal_close_grace_s=0.02)
    reader, writer = await portal.client()
    writer.write(b"question")
    writer.write_eof()
    await asked.wait()
    asyncio.get_running_loop().call_later(0.3, go_on.set)
    assert await ends(reader) == (answer, True)
    writer.close()
    await portal.is_clean()
    assert (await portal.laptop.event("session-close")).reason == "done"


async def test_a_server_that_has_written_all_still_gets_the_whole_upload(net: Any) -> None:
    upload = os.urandom(3 * MEBIBYTE)
    came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"go on")
        writer.write_eof()
        came.set_result(await reader.read())

    portal = await net.portal(await net.serve(serve))
    reader, writer = await portal.client()
    assert await ends(reader) == (b"go on", True)
    writer.write(upload)
    writer.write_eof()
    assert await came == upload
    writer.close()
    await portal.is_clean()


async def test_a_side_that_stays_silent_after_the_other_ended_is_given_up_with_an_error(net: Any) -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await release.wait()

    portal = await net.portal(await net.serve(serve), portal_half_closed_s=0.3)
    reader, writer = await portal.client()
    writer.write_eof()
    assert await ends(reader) == (b"", False)
    release.set()
    writer.close()
    await portal.is_clean()


# -- answers that come late, and strangers -----------------------------------------------------------


async def test_a_client_is_closed_in_time_while_there_is_no_outlet_and_the_next_is_served(net: Any) -> None:
    portal = await net.portal(await net.echo(), portal_connect_s=0.3)
    port = portal.outlet.target.port
    (channels,) = portal.gateway._channels._listeners
    await portal.outlet.close()
    portal.remember()
    reader, writer = await portal.client()
    assert (await ends(reader))[0] == b""
    writer.close()
    assert "did not answer within 0.3 s" in (await portal.laptop.event("refused")).reason
    await portal.is_clean()
    portal.outlet = portal.gateway.outlet(f"tcp:127.0.0.1:{port}")
    portal.gateway.open("outlet", channels)
    portal.remember()
    reader, writer = await portal.client()
    writer.write(b"now")
    assert await reader.readexactly(3) == b"now"
    writer.close()
    await portal.is_clean()


async def test_an_inlet_without_a_way_says_why_and_serves_once_there_is_one(net: Any) -> None:
    gateway, laptop = await net.node(), await net.node(portal_connect_s=0.3)
    port = free_port()
    path = laptop.path(f"tcp:127.0.0.1:{port},outlet")
    inlet = await laptop.inlet("tcp:127.0.0.1:0", path)
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    assert (await ends(reader))[0] == b""
    writer.close()
    assert "connection refused" in (await laptop.event("refused")).reason
    listener = await gateway.listen(f"tcp:127.0.0.1:{port}")
    gateway.outlet(f"tcp:127.0.0.1:{await net.echo()}")
    gateway.open("outlet", listener)
    await path.wait(10.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    writer.write(b"now")
    assert await reader.readexactly(3) == b"now"
    writer.close()


async def test_a_pong_that_comes_too_late_is_told_that_nobody_waits(
    net: Any, monkeypatch: Any, until: Any
) -> None:
    busy = await net.busy()
    portal = await net.portal(busy.port)
    # The laptop waits for less long than its gateway.
    monkeypatch.setattr(
        portal.inlet, "_limits", dataclasses.replace(portal.laptop.limits, portal_connect_s=1.0)
    )
    reader, writer = await portal.client()
    await until(lambda: portal.outlet.sessions)
    (session,) = portal.inlet.sessions
    session._no_answer(1.0)
    assert (await ends(reader))[0] == b""
    writer.close()
    await portal.laptop.event("refused")
    await busy.accept()
    assert (await portal.gateway.event("session-close")).reason == "reset by the peer"
    await portal.is_clean()


async def test_messages_of_another_peer_are_ignored(net: Any, until: Any) -> None:
    portal = await net.portal(await net.echo())
    reader, writer = await portal.client()
    writer.write(b"mine")
    assert await reader.readexactly(4) == b"mine"
    stranger = await net.node()
    listener = portal.gateway._listeners[0]
    before = len(portal.gateway.router)
    link = await stranger.connect(f"tcp:127.0.0.1:{listener.endpoint.host_port.port}")
    (session,) = portal.outlet.sessions
    portal.gateway.open(session.address, listener)  # even if the flow control were wide open
    back = Route((random_address(),))
    for payload in (b"\x03\x05wrong", b"\x02", b"\x02", b"\x01", b"\x00"):
        stranger.router.deliver(Message(link.route / session.address, back, payload))
    await stranger.ask(link.route / "echo", b"the messages before have arrived")
    writer.write(b"only mine")
    assert await reader.readexactly(9) == b"only mine"
    link.close()
    await until(lambda: len(portal.gateway.router) == before)
    writer.close()
    await portal.is_clean()


async def test_payloads_at_the_outlet_itself_are_ignored(net: Any) -> None:
    portal = await net.portal(await net.echo(), secure=False)
    context = portal.laptop.context()
    route = await portal.path.wait(1.0)
    portal.laptop.open(context.address, portal.laptop.router.flow_of(route[0]))
    for payload in (b"\x03\x05hello", b"\x02", b"\x01", b"", b"\xff"):
        await context.send(route, payload)
    await portal.laptop.ask(Route(route[:-1]) / "echo", b"the messages before have arrived")
    assert not portal.outlet.sessions
    reader, writer = await portal.client()
    writer.write(b"works")
    assert await reader.readexactly(5) == b"works"
    writer.close()
    await portal.laptop.stop_worker(context.address)
    await portal.is_clean()


async def test_a_dead_link_ends_connections_at_once_and_the_path_comes_back(net: Any, until: Any) -> None:
    portal = await net.portal(await net.echo(), wired=True)
    reader, writer = await portal.client()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    portal.wire.cut()
    assert await ends(reader) == (b"", False)
    writer.close()
    for host in (portal.laptop, portal.gateway):
        assert "the way to the peer is gone" in (await host.event("session-close")).reason
    reader, writer = await portal.client()
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"
    assert portal.wire.links == 2
    writer.close()
    await portal.is_clean()


@pytest.mark.parametrize("which", ["inlet", "outlet"])
async def test_closing_an_end_closes_its_connections_and_nothing_else(
    net: Any, which: str, until: Callable[..., Any]
) -> None:
    portal = await net.portal(await net.echo())
    reader, writer = await portal.client()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await getattr(portal, which).close()
    await getattr(portal, which).close()
    assert (await ends(reader))[0] == b""
    writer.close()
    await until(lambda: not portal.inlet.sessions and not portal.outlet.sessions)
    assert portal.path.current is not None
