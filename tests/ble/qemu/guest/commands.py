"""Our commands in processes and under a user of their own, and the service that is reached through them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_USER: Final = 1000
_END_S: Final = 15.0
_HEAD: Final = struct.Struct(">QQ")
_PIECE_BYTES: Final = 4096
_number: Final = itertools.count()
DATA: Final = random.Random(7).randbytes(1 << 20)
"""What is sent both ways, from its beginning."""


class Command:
    """``ockamlite`` with JSON on its stdout; what it logs goes to the console when it ends."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.events: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, *arguments: str) -> Command:
        """Start it as a user who is in no group that matters."""
        log = Path(f"/run/command-{next(_number)}.log")
        environment = dict(os.environ) | {"HOME": "/home/pi", "OCKAMLITE_OUTPUT": "json"}
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "ockamlite", *arguments, "-v",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=stderr,
                user=_USER, group=_USER, extra_groups=[], env=environment, cwd="/home/pi",
            )  # fmt: skip
        return cls(process, log)

    @property
    def runs(self) -> bool:
        """True until it ends."""
        return self._process.returncode is None

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    async def wait(self, event: str, *, after: int = 0) -> dict[str, Any]:
        """The first event of a kind after so many others; the end of the command is a failure."""
        while True:
            for found in self.events[after:]:
                if found.get("event") == event:
                    return found
            if self._reading.done():
                raise AssertionError(f"ended with {await self._process.wait()} before {event}: {self.log}")
            self._came.clear()
            await self._came.wait()

    async def end(self, number: int = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        if self.runs:
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(_END_S):
                return await self.result()
        except TimeoutError:
            self._process.kill()
            raise

    async def result(self) -> int:
        """Wait for its end; returns its exit code."""
        code = await self._process.wait()
        await self._reading
        sys.stdout.write(f"--- exit code {code}\n{self.log}---\n")
        return code

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(json.loads(line))
            sys.stdout.write(f"event: {line.decode()}")
            self._came.set()
        self._came.set()


class Service:
    """Takes as many octets as announced, answers with their digest and as many as asked for."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a port of its own."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up, down = _HEAD.unpack(await reader.readexactly(_HEAD.size))
            writer.write(hashlib.sha256(await reader.readexactly(up)).digest())
            writer.write(DATA[:down])
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


async def transfer(
    port: int, *, up: int = 0, down: int = 0, broken: asyncio.Event | None = None
) -> tuple[float, float]:
    """Send and fetch through an inlet; returns the seconds until the first octet and until the last.

    Args:
        port: of the inlet.
        up: octets to send.
        down: octets to fetch.
        broken: set once a quarter has been fetched.

    Raises:
        ConnectionError: the connection ended early; what had come was right.
        AssertionError: something wrong came.
    """
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_HEAD.pack(up, down) + DATA[:up])
        digest = await reader.readexactly(32)
        first = time.monotonic() - begun
        if digest != hashlib.sha256(DATA[:up]).digest():
            raise AssertionError("what was sent did not arrive as it was")
        got = 0
        while got < down:
            piece = await reader.read(_PIECE_BYTES)
            if piece != DATA[got : got + len(piece)]:
                raise AssertionError(f"what was fetched is wrong at {got}")
            if not piece:
                raise ConnectionError(f"ended after {got} octets of {down}")
            got += len(piece)
            if broken is not None and got >= down // 4:
                broken.set()
        return first, time.monotonic() - begun
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("ended before the first octet") from error
    finally:
        writer.close()
