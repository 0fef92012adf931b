"""The command over a route of four kinds of links, each node a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import Air
from boards.emulation.air_server import AirServer
from boards.emulation.line import PtyLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]


class Commands:
    """Commands of ours that share an emulated air."""

    def __init__(self, folder: Path) -> None:
        self.air = str(folder / "air")
        self.running: list[asyncio.subprocess.Process] = []
        self._folder = folder
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OCKAMLITE_")
        } | {"OCKAMLITE_AIR": self.air, "PYTHONPATH": str(ROOT)}

    async def serve(self, home: str, *arguments: str) -> str:
        """Start one; where it listens."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ockamlite", *arguments, "--output", "json"),
            env={**self._environment, "OCKAMLITE_HOME": str(self._folder / home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.running.append(process)
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(20):
            first = await process.stdout.readline()
        assert first, (await process.stderr.read()).decode()
        (listening,) = json.loads(first)["listening"]
        return str(listening)

    async def stop(self) -> None:
        """End them, and see that they end well."""
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                _, complaints = await process.communicate()
            assert process.returncode == 0, complaints
            assert b"Traceback" not in complaints

    async def kill(self) -> None:
        """End what a test has left."""
        for process in self.running:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@pytest.fixture
async def commands(tmp_path: Path) -> AsyncIterator[Commands]:
    made = Commands(tmp_path)
    yield made
    await made.kill()


async def test_the_command_goes_over_any_links_that_its_route_names(
    net: Any, commands: Commands, tmp_path: Path
) -> None:
    serve = commands.serve
    async with (
        AirServer(Air(), commands.air),
        PtyLine((tmp_path / "a", tmp_path / "b"), baud=921_600) as line,
    ):
        here, there = (f"serial:{device}" for device in line.devices)
        target = f"tcp:127.0.0.1:{await net.echo()}"
        server = await serve("server", "outlet", target, "--listen", "tcp:127.0.0.1:0", "--trust-everyone")
        relay = ("relay", "--ephemeral", "--listen")
        third = await serve("third", *relay, "udp:127.0.0.1:0", "--forward", server)
        await serve("second", *relay, there, "--forward", third)
        await serve("first", *relay, "ble:first", "--forward", "serial")
        hops = f"ble:first,{here},{third},{server}"
        inlet = await serve("laptop", "inlet", "tcp:127.0.0.1:0", "--via", hops, "--trust-everyone")
        data = random.Random(1).randbytes(20_000)
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(inlet.rpartition(":")[2]))
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            writer.close()
            await writer.wait_closed()
        await commands.stop()
