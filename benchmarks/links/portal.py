"""A portal between two nodes of this process, the service behind it, and transfers that are compared."""

from __future__ import annotations

import asyncio
import random
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from benchmarks.errors import BenchmarkError, WrongBytesError
from ockamlite import TrustIdentifiers

if TYPE_CHECKING:
    from ockamlite import Node

_ORDER = struct.Struct(">cQ")
_READ_BYTES = 256 * 1024
_PATIENCE_S = 60.0


@lru_cache(maxsize=4)
def body(size: int) -> bytes:
    """Bytes that nothing makes shorter."""
    return random.Random(size).randbytes(size)


class Service:
    """What is behind the outlet: takes bytes, gives bytes, or returns them, as the first one says."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Service:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            kind, size = _ORDER.unpack(await reader.readexactly(_ORDER.size))
            if kind == b"U":
                await received(reader, size)
                writer.write(b"=")
            elif kind == b"D":
                writer.write(body(size))
            else:
                while data := await reader.read(_READ_BYTES):
                    writer.write(data)
                    await writer.drain()
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, WrongBytesError):
            writer.transport.abort()
        writer.close()


async def received(reader: asyncio.StreamReader, size: int) -> None:
    """Take the body of this size and compare it.

    Raises:
        WrongBytesError: it is another.
        IncompleteReadError: it ended before.
    """
    came = bytearray()
    while len(came) < size:
        data = await reader.read(min(_READ_BYTES, size - len(came)))
        if not data:
            raise asyncio.IncompleteReadError(bytes(came[:64]), size)
        came += data
    if came != body(size):
        raise WrongBytesError(f"{size} bytes came otherwise than they were sent")


async def joined(
    near: Node, far: Node, endpoint: str, listener: Any, target: int, *, secure: bool = True
) -> Any:
    """An inlet at ``near`` whose outlet at ``far`` leads to ``target``; it has a way there."""
    far.outlet(f"tcp:127.0.0.1:{target}")
    hops = f"{endpoint},outlet"
    if secure:
        channels = far.secure_channel_listener(trust=TrustIdentifiers(near.identity.identifier))
        far.open(channels.address, listener)
        far.open("outlet", channels)
        hops = f"{endpoint},secure:secure_channel_listener,outlet"
    else:
        far.open("outlet", listener)
    path = near.path(hops, trust=TrustIdentifiers(far.identity.identifier))
    await path.wait(_PATIENCE_S)
    return await near.inlet("tcp:127.0.0.1:0", path)


async def up(port: int, size: int) -> float:
    """Send through the portal; bytes a second until the far end has said that all is there and right."""
    began = asyncio.get_running_loop().time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_ORDER.pack(b"U", size) + body(size))
    answer = await reader.read(1)
    took = asyncio.get_running_loop().time() - began
    await _close(writer)
    if answer != b"=":
        raise BenchmarkError("the far end did not confirm what was sent")
    return size / took


async def down(port: int, size: int) -> float:
    """Fetch through the portal; bytes a second until all is here and right, counted from the connection."""
    began = asyncio.get_running_loop().time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_ORDER.pack(b"D", size))
    await received(reader, size)
    took = asyncio.get_running_loop().time() - began
    await _close(writer)
    return size / took


async def first_byte(port: int) -> None:
    """One byte there and back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_ORDER.pack(b"E", 0) + b"x")
    await reader.readexactly(1)
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()
