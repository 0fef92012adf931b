"""Connections through portals: how they begin, and clients that leave early; nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from ockamlite.errors import UnavailableError
from ockamlite.routing.route import Route
from tests.portals.connections import ends, free_port

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
