"""The processes of the demo: this tool's own commands, each with a state folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ockamlite
from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_READY_S: Final = 10.0
_STOP_S: Final = 1.0


class Processes:
    """Starts commands and ends them all on leaving.

    Args:
        folder: for their state.
        environment: what they find in theirs, besides what is in ours.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environment = dict(environment or {})
        self._running: list[asyncio.subprocess.Process] = []
        self._talk: list[asyncio.Task[None]] = []
        self.said: dict[str, bytearray] = {}
        """What each process said on stderr, by its name."""

    async def __aenter__(self) -> Processes:
        """Begin without any."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them all, within a second or so."""
        for process in self._running:
            if process.returncode is None:
                process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*(process.wait() for process in self._running))
        except TimeoutError:
            for process in self._running:
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*(process.wait() for process in self._running))
        for task in self._talk:
            task.cancel()

    async def result(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run a command to its end; return what it printed.

        Raises:
            UnavailableError: it failed.
        """
        process = await self._start(name, arguments)
        return await self._first_line(name, process)

    async def serve(self, name: str, *arguments: str) -> dict[str, Any]:
        """Start a command that serves; return its ready line.

        Raises:
            UnavailableError: it ended, or was not ready in time; says what it said.
        """
        process = await self._start(name, arguments)
        ready = await self._first_line(name, process)
        assert process.stdout is not None  # noqa: S101  (asked for)
        self._talk.append(asyncio.ensure_future(_drain(process.stdout, bytearray())))
        return ready

    async def _start(self, name: str, arguments: tuple[str, ...]) -> asyncio.subprocess.Process:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("OCKAMLITE_")}
        root = str(Path(ockamlite.__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment |= {"OCKAMLITE_HOME": str(self._folder / name), "PYTHONPATH": os.pathsep.join(paths)}
        environment |= self._environment
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "ockamlite",
            *arguments,
            "--output",
            "json",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ours to end: what a terminal sends to its group is not for them.
            start_new_session=True,
        )
        self._running.append(process)
        said = self.said.setdefault(name, bytearray())
        assert process.stderr is not None  # noqa: S101  (asked for)
        self._talk.append(asyncio.ensure_future(_drain(process.stderr, said)))
        return process

    async def _first_line(self, name: str, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None  # noqa: S101  (asked for)
        try:
            async with asyncio.timeout(_READY_S):
                line = await process.stdout.readline()
                if not line:
                    await process.wait()
                    await asyncio.sleep(0)
        except TimeoutError:
            line = b""
        if not line:
            said = self.said[name].decode(errors="replace").strip() or "it says nothing"
            raise UnavailableError(f"the {name} did not start: {said}")
        found: dict[str, Any] = json.loads(line)
        return found


async def _drain(stream: asyncio.StreamReader, into: bytearray) -> None:
    while data := await stream.read(4096):
        into += data[: max(0, 65536 - len(into))]
