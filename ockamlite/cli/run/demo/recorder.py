"""A TCP forwarder that keeps every byte it carries: what somebody on this hop could have seen."""

from __future__ import annotations

import asyncio
from typing import Final

_READ_BYTES: Final = 64 * 1024


class Recorder:
    """Stands on one hop, forwards both ways and records both ways."""

    kind: Final = "tcp"
    """The kind of its link, as in endpoints."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.target = 0
        """Port to forward to, on this machine; set before anybody connects."""
        self.port = 0
        self.is_recording = True
        self._streams: list[bytearray] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def count_bytes(self) -> int:
        """How much has passed so far, both ways."""
        return sum(map(len, self._streams))

    def saw(self, text: bytes) -> bool:
        """True if these bytes passed, in either direction."""
        return any(text in stream for stream in self._streams)

    async def start(self) -> int:
        """Listen on a free port of this machine; return it."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def close(self) -> None:
        """Forward no more."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        for pump in tuple(self._pumps):
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a server runs this as a task)
        self._pumps.add(task)
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            back, onward = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(onward)
            await asyncio.gather(self._pump(reader, onward), self._pump(back, writer))
        except (OSError, asyncio.CancelledError):
            return
        finally:
            self._pumps.discard(task)
            for one in (writer, onward):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = bytearray()
        self._streams.append(kept)
        while data := await reader.read(_READ_BYTES):
            if self.is_recording:
                kept += data
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
