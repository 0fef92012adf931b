"""What an outlet allows whoever may reach it, whatever their inlet would."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from typing import TYPE_CHECKING, Any

from ockamlite.routing.route import Route
from tests.portals.connections import ends

if TYPE_CHECKING:
    import pytest


async def test_an_outlet_opens_no_more_connections_than_allowed_and_says_so(net: Any) -> None:
    portal = await net.portal(await net.echo(), portal_connections=2)
    portal.inlet._limits = dataclasses.replace(portal.inlet._limits, portal_connections=100)
    clients = [await portal.client() for _ in range(2)]
    await portal.gateway.event("session-open", 2)
    for number in (1, 2, 3):
        reader, writer = await portal.client()
        assert (await ends(reader))[0] == b""
        refused = await portal.gateway.event("refused", number)
        assert refused.peer == str(portal.laptop.identity.identifier)
        assert "2 connections are open, no more are allowed" in refused.reason
        assert len(portal.outlet.sessions) == 2
        writer.close()
    for _, writer in clients:
        writer.close()
    await portal.is_clean()
    reader, writer = await portal.client()
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"
    writer.close()
    await portal.is_clean()


async def test_strangers_who_ask_for_a_dead_target_for_ever_fill_no_log(
    net: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        portal = await net.portal(nobody.getsockname()[1], secure=False)
        for _ in range(20):
            reader, writer = await portal.client()
            await ends(reader)
            writer.close()
    told = [record for record in caplog.records if record.name.endswith("outlet")]
    assert len(told) == len(portal.gateway.events("refused")) == 5  # the 1st, 2nd, 4th, 8th and 16th


async def test_an_inlet_of_the_same_node_takes_clients_who_speak_first(net: Any) -> None:
    node = await net.node()
    node.outlet(f"tcp:127.0.0.1:{await net.echo()}")
    inlet = await node.inlet("tcp:127.0.0.1:0", Route.of("outlet"))
    for _ in range(10):
        client = socket.create_connection(("127.0.0.1", inlet.port))
        client.sendall(b"hello")  # there before the inlet's node has its turn
        reader, writer = await asyncio.open_connection(sock=client)
        assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
        writer.close()
    await node.event("session-close", 20)
