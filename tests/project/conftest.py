"""Programs run as a user runs them, and the services they lead to."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parents[2]

_PATIENCE_S = 20.0


class Program:
    """A program that runs, seen from its terminal."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name

    async def line(self) -> str:
        """The next line it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE_S):
            line = await self._process.stdout.readline()
        if not line:
            raise AssertionError(f"{self._name} ended: {await self.complaints()}")
        return line.decode().rstrip("\n")

    def type(self, line: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def end_input(self) -> None:
        """Type Ctrl-D."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def complaints(self) -> str:
        """What it wrote to stderr, once it has ended."""
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()

    async def rest(self) -> str:
        """What else it prints until it ends by itself, without a complaint."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE_S):
            rest = await self._process.stdout.read()
            code = await self._process.wait()
        complaints = await self.complaints()
        assert code == 0, complaints
        assert "Traceback" not in complaints
        return rest.decode()

    async def interrupt(self) -> None:
        """Type Ctrl-C; it ends cleanly."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        await self.rest()

    async def killed_by(self, number: signal.Signals) -> bool:
        """True if a signal ends it at once and it says nothing."""
        self._process.send_signal(number)
        async with asyncio.timeout(_PATIENCE_S):
            return await self._process.wait() == -number and not await self.complaints()

    async def kill(self) -> None:
        """End it, whatever it does."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


Start: TypeAlias = Callable[..., Awaitable[Program]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts an example by its name, with arguments."""
    programs: list[Program] = []

    async def begin(name: str, *arguments: str) -> Program:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            ROOT / "examples" / f"{name}.py",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        programs.append(Program(process, name))
        return programs[-1]

    yield begin
    for program in programs:
        await program.kill()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Finds ports of this machine that nobody uses."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture
async def echo_server() -> AsyncIterator[str]:
    """``HOST:PORT`` of a service that returns what it is sent, until its client has finished."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
