"""A node that strangers can reach, and what it must never do for them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.node import Node
from ockamlite.secure_channels.trust import TrustEveryone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ockamlite.limits import Limits


class Exposed:
    """A node that listens for links and channels, and a record of what went wrong in it."""

    def __init__(self) -> None:
        self.defects: list[str] = []

    async def start(self, **options: Any) -> Exposed:
        asyncio.get_running_loop().set_exception_handler(self._defect)
        self.node = await Node(**options).__aenter__()
        self.listener = await self.node.listen("tcp:127.0.0.1:0")
        self.channels = self.node.secure_channel_listener("api", trust=TrustEveryone())
        self.node.uppercase()
        self.node.open("api", self.listener)
        self.node.open("uppercase", self.listener, self.channels)
        self.port: int = self.listener.endpoint.host_port.port
        return self

    def _defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.defects.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of somebody who may send anything."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def feed(self, data: bytes) -> bytes:
        """Send bytes and the end; what came back until the node closed the connection."""
        reader, writer = await self.raw()
        back = b""
        try:
            writer.write(data)
            writer.write_eof()
            back = await reader.read()
        except ConnectionError:
            pass
        writer.close()
        return back

    async def serves(self) -> bool:
        """True if an honest client gets what it asks for."""
        async with Node() as client:
            link = await client.connect(self.listener.endpoint)
            channel = await client.secure_channel(link.route / "api", trust=TrustEveryone())
            plain = await client.ask(link.route / "uppercase", "plain")
            secure = await client.ask(channel.route / "uppercase", "secure")
            return (plain.text, secure.text) == ("PLAIN", "SECURE")

    async def no_links(self) -> None:
        """Wait until every link has ended."""
        while self.listener.links:
            await next(iter(self.listener.links)).closed
            await asyncio.sleep(0)

    async def close(self) -> None:
        await self.node.close()
        assert self.defects == []


@pytest.fixture
async def exposed(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Exposed]:
    """Started; at the end nothing may have gone wrong in it, whatever was sent."""
    caplog.set_level(logging.INFO)
    made = await Exposed().start()
    yield made
    await made.close()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@pytest.fixture
async def with_limits(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Any]:
    """Makes a node with limits of the test's choice."""
    made: list[Exposed] = []

    async def start(limits: Limits) -> Exposed:
        made.append(await Exposed().start(limits=limits))
        return made[-1]

    yield start
    for one in made:
        await one.close()
