"""Portals over slow lines: a transfer that takes minutes does not pass for a silent peer."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from boards.network import Network
from ockamlite import TrustIdentifiers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SENT = random.Random("slow").randbytes(60_000)


async def gives(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(SENT)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.read() == SENT
    writer.write(b"all of it")
    writer.close()


async def inlet_port(network: Network, baud: int, serve: Callable[..., Awaitable[None]]) -> int:
    near, far = await network.node("near"), await network.node("far")
    line = await network.serial(near, far, baud=baud)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    channels = far.secure_channel_listener(trust=TrustIdentifiers(near.identity.identifier))
    far.open(channels.address, line.listener)
    far.open(far.outlet(f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}").address, channels)
    path = near.path(
        f"{line.endpoint},secure:secure_channel_listener,outlet",
        trust=TrustIdentifiers(far.identity.identifier),
    )
    await path.wait(60)
    return (await near.inlet("tcp:127.0.0.1:0", path)).port


@pytest.mark.parametrize("baud", [9600, 19_200])
def test_what_takes_longer_than_a_peer_may_be_silent_arrives_whole(baud: int) -> None:
    async def fetched(network: Network) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", await inlet_port(network, baud, gives))
        came = await reader.read()
        writer.close()
        return came

    async def sent(network: Network) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", await inlet_port(network, baud, takes))
        writer.write(SENT)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    network = Network(seed=1)
    assert network.run(fetched(network)) == SENT
    network = Network(seed=1)
    assert network.run(sent(network)) == b"all of it"
