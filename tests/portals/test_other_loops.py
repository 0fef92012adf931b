"""A program may run nodes on an event loop that is not asyncio's own."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Network

DATA = bytes(range(256)) * 16_384


@pytest.mark.parametrize("secure", [True, False], ids=["channel", "plain"])
def test_links_channels_and_portals_work_on_uvloop(secure: bool) -> None:
    uvloop = pytest.importorskip("uvloop", reason="pip install uvloop")

    async def body() -> None:
        network = Network()
        try:
            portal = await network.portal(await network.echo(), secure=secure)
            for data in (b"one byte, or a few", DATA, b"again"):
                reader, writer = await portal.client()
                sending = asyncio.ensure_future(send(writer, data))
                assert await reader.read(-1) == data
                await sending
                writer.close()
            reader, writer = await portal.client()
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.transport.abort()
            await portal.is_clean()
        finally:
            await network.close()

    async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(body(), 30))
