"""Connections through portals: how they end, answers that come late, and strangers."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.routing.address import random_address
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from tests.portals.connections import MEBIBYTE, ends, free_port

if TYPE_CHECKING:
    from collections.abc import Callable


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
