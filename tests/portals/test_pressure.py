"""Readers slower than writers: what is under way stays bounded, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

MEBIBYTE = 1024 * 1024
SMALL = 16 * 1024
"""Kernel buffers of the connections that are slowed, so that they fill at once."""


def narrow(end: Any) -> None:
    """Give the application's socket of a session little room in the kernel."""
    for session in end.sessions:
        session._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)


async def narrow_client(port: int) -> socket.socket:
    """Connect with little room for what comes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return client


async def read_all(client: socket.socket) -> tuple[bytes, bool]:
    loop = asyncio.get_running_loop()
    found = bytearray()
    try:
        while data := await loop.sock_recv(client, 65_536):
            found += data
    except ConnectionError:
        return bytes(found), False
    return bytes(found), True


class Flood:
    """A service that writes as much as is taken, and counts."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)
        if await reader.readexactly(1) == b"e":
            writer.write(b"echo")
            await reader.read()
            return
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
                self.sent += 65_536
        finally:
            self.ended.set()


async def test_a_client_that_never_reads_is_ended_with_a_reason_and_the_others_go_on(
    net: Any, caplog: Any, until: Any
) -> None:
    flood = Flood()
    portal = await net.portal(await net.serve(flood), portal_stall_s=0.4)
    lazy = await narrow_client(portal.inlet.port)
    await portal.laptop.event("session-open")
    narrow(portal.inlet)
    (session,) = portal.inlet.sessions
    await asyncio.get_running_loop().sock_sendall(lazy, b"f")
    await until(lambda: session._gate.is_shut)
    reader, writer = await portal.client()
    writer.write(b"e")
    waiting = asyncio.ensure_future(reader.readexactly(4))
    most = 0
    (link,) = portal.gateway._links

    def look() -> bool:
        nonlocal most
        if session._transport is not None:
            most = max(most, session._transport.get_write_buffer_size())
        most = max(most, link._link._transport.get_write_buffer_size())
        return bool(portal.laptop.events("session-close"))

    await until(look)
    limits = portal.laptop.limits
    assert 0 < most <= limits.portal_buffer_bytes + 2 * limits.portal_chunk_bytes
    assert await waiting == b"echo"
    (closed,) = portal.laptop.events("session-close")
    assert "took nothing for 0.4 s" in closed.reason
    assert any("took nothing" in record.getMessage() for record in caplog.records)
    await flood.ended.wait()
    assert (await read_all(lazy))[1] is False
    lazy.close()
    writer.close()
    await portal.is_clean()


async def test_a_target_that_never_reads_is_ended_with_a_reason(net: Any, until: Any) -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await release.wait()

    portal = await net.portal(await net.serve(serve, limit=SMALL), portal_stall_s=0.4)
    _, writer = await portal.client()
    await portal.gateway.event("session-open")
    narrow(portal.outlet)
    ended = asyncio.Event()

    async def write() -> None:
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        except ConnectionError:
            ended.set()

    writing = asyncio.ensure_future(write())
    closed = await portal.gateway.event("session-close")
    assert "took nothing for 0.4 s" in closed.reason
    await ended.wait()
    await writing
    release.set()
    writer.close()
    await portal.is_clean()


async def test_a_slow_reader_slows_the_writer_and_gets_everything(net: Any, until: Any) -> None:
    flood = Flood()
    portal = await net.portal(await net.serve(flood), portal_stall_s=5.0)
    client = await narrow_client(portal.inlet.port)
    await portal.laptop.event("session-open")
    narrow(portal.inlet)
    (session,) = portal.inlet.sessions
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, b"f")
    await until(lambda: session._gate.is_shut)
    stopped = -1
    while stopped != flood.sent:
        stopped = flood.sent
        for _ in range(50):
            await asyncio.sleep(0)
    took = 0
    while flood.sent == stopped:  # what is read makes room for what is written
        took += len(await loop.sock_recv(client, 65_536))
        assert took < 64 * MEBIBYTE
    client.close()
    await portal.is_clean()


async def test_a_slow_target_slows_the_client(net: Any, until: Any) -> None:
    go_on = asyncio.Event()
    upload = os.urandom(3 * MEBIBYTE)
    came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        came.set_result(await reader.read())

    portal = await net.portal(await net.serve(serve, limit=SMALL), portal_stall_s=20.0)
    _, writer = await portal.client()
    await portal.gateway.event("session-open")
    narrow(portal.outlet)
    (session,) = portal.outlet.sessions
    writer.write(upload)
    writer.write_eof()
    await until(lambda: session._gate.is_shut)
    limits = portal.gateway.limits
    waiting = session._transport.get_write_buffer_size()
    assert waiting <= limits.portal_buffer_bytes + limits.portal_bulk_chunk_bytes
    go_on.set()
    assert await came == upload
    writer.close()
    await portal.is_clean()


async def test_what_was_received_is_delivered_after_both_sides_have_ended(net: Any, until: Any) -> None:
    answer = os.urandom(2 * MEBIBYTE)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(answer)
        await writer.drain()

    portal = await net.portal(await net.serve(serve), portal_stall_s=5.0, portal_buffer_bytes=4 * MEBIBYTE)
    client = await narrow_client(portal.inlet.port)
    await portal.laptop.event("session-open")
    narrow(portal.inlet)
    (session,) = portal.inlet.sessions
    client.shutdown(socket.SHUT_WR)
    assert (await portal.laptop.event("session-close")).reason == "done"
    assert session._transport is not None
    assert session._transport.get_write_buffer_size() > MEBIBYTE
    assert await read_all(client) == (answer, True)
    await until(lambda: session._transport is None)
    client.close()
    await portal.is_clean()


async def test_an_application_that_stalls_on_what_it_is_owed_gets_an_error(net: Any, until: Any) -> None:
    answer = os.urandom(2 * MEBIBYTE)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(answer)
        await writer.drain()

    portal = await net.portal(await net.serve(serve), portal_stall_s=0.2, portal_buffer_bytes=4 * MEBIBYTE)
    client = await narrow_client(portal.inlet.port)
    await portal.laptop.event("session-open")
    narrow(portal.inlet)
    (session,) = portal.inlet.sessions
    client.shutdown(socket.SHUT_WR)
    await portal.laptop.event("session-close")
    await until(lambda: session._transport is None)
    found, good = await read_all(client)
    assert not good
    assert answer.startswith(found)
    client.close()
    await portal.is_clean()


@pytest.mark.parametrize("writes_on", [False, True], ids=["that listens", "that still writes"])
@pytest.mark.parametrize("secure", [False, True], ids=["in clear", "secure"])
async def test_a_complete_download_outlives_its_link(
    net: Any, until: Any, *, secure: bool, writes_on: bool
) -> None:
    answer = os.urandom(2 * MEBIBYTE)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    target = await net.serve(serve)
    portal = await net.portal(target, secure=secure, portal_buffer_bytes=4 * MEBIBYTE)
    client = await narrow_client(portal.inlet.port)
    await portal.laptop.event("session-open")
    narrow(portal.inlet)
    (session,) = portal.inlet.sessions
    await until(lambda: session.portal.remote_done)
    portal.path.opened.parts[0].close()
    assert (await portal.laptop.event("session-close")).reason == "closed by the peer"
    assert session._unread_bytes() > MEBIBYTE
    if writes_on:
        await asyncio.get_running_loop().sock_sendall(client, b"too late")
    assert await read_all(client) == (answer, True)
    await until(lambda: session._transport is None)
    client.close()
    await until(lambda: not portal.inlet.sessions and not portal.outlet.sessions)
