"""Portals over UDP: whole where nothing is lost, and a clear end, never wrong bytes, where something is."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.secure_channels.trust import TrustEveryone

if TYPE_CHECKING:
    from collections.abc import Callable

MEBIBYTE = random.Random(1).randbytes(1024 * 1024)


async def inlet(net: Any, *, secure: bool, loses: Callable[[bytes], bool] | None = None) -> Any:
    """An inlet whose portal runs over UDP, through losses if there are any."""
    gateway, laptop = await net.node(), await net.node()
    listener = await gateway.listen("udp:127.0.0.1:0")
    port = listener.endpoint.host_port.port
    if loses is not None:
        port = (await net.air(port, loses)).port
    gateway.outlet(f"tcp:127.0.0.1:{await net.echo()}")
    hops = f"udp:127.0.0.1:{port}"
    if secure:
        channels = gateway.secure_channel_listener(trust=TrustEveryone())
        gateway.open(channels.address, listener)
        gateway.open("outlet", channels)
        hops += ",secure:secure_channel_listener"
    else:
        gateway.open("outlet", listener)
    path = laptop.path(f"{hops},outlet", trust=TrustEveryone())
    await path.wait(20)
    return await laptop.inlet("tcp:127.0.0.1:0", path)


async def exchange(port: int, data: bytes) -> tuple[bytes, bool]:
    """Send through an echo; what came back, and whether the connection ended with an error."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = bytearray()

    async def send() -> None:
        try:
            writer.write(data)
            await writer.drain()
            writer.write_eof()
        except ConnectionError:
            pass

    async with asyncio.timeout(30), asyncio.TaskGroup() as both:
        both.create_task(send())
        try:
            while chunk := await reader.read(65_536):
                came += chunk
            failed = False
        except ConnectionError:
            failed = True
    writer.transport.abort()
    return bytes(came), failed


@pytest.mark.parametrize("secure", [False, True])
async def test_a_mebibyte_goes_through_a_portal_and_back_whole(net: Any, secure: bool) -> None:
    portal = await inlet(net, secure=secure)
    assert await exchange(portal.port, MEBIBYTE) == (MEBIBYTE, False)


@pytest.mark.parametrize("secure", [True, False], ids=["channel", "plain"])
@pytest.mark.parametrize("seed", range(5))
async def test_at_one_percent_loss_a_connection_ends_with_an_error_and_no_byte_is_wrong(
    net: Any, losing: Any, seed: int, secure: bool
) -> None:
    lossless = True
    lose = losing(0.01, seed)
    portal = await inlet(net, secure=secure, loses=lambda data: not lossless and lose(data))
    lossless = False
    sent = MEBIBYTE * 4
    came, failed = await exchange(portal.port, sent)
    assert failed
    assert sent.startswith(came)
    assert len(came) < len(sent), "4 MiB each way without the loss of a datagram in a hundred"
    async with asyncio.timeout(20):
        while portal.sessions:
            await asyncio.sleep(0.001)
    reasons = [getattr(event, "reason", "") for event in net.events]
    assert "messages were lost on the way" in reasons


async def test_after_a_connection_was_lost_the_next_one_works(net: Any) -> None:
    broken = False
    portal = await inlet(net, secure=True, loses=lambda data: broken and len(data) > 1000)
    broken = True
    came, _ = await exchange(portal.port, MEBIBYTE)
    assert len(came) < len(MEBIBYTE)
    assert MEBIBYTE.startswith(came)
    broken = False
    assert await exchange(portal.port, b"small") == (b"small", False)
