"""The program of an emulated board: a process under the supervisor, what it prints, and why it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from boards.emulation.board_program import OUT_OF_MEMORY
from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boards.board_limits import BoardLimits

_CLOSE_S: Final = 5.0
_NO_MEMORY: Final = ("MemoryError", "can't start new thread", "cannot map zero-fill pages")
"""How Python and the loader of programs say that there is none."""
_SIGNALLED: Final = 128
"""Added by the supervisor to the number of the signal that ended a program."""
_LINE_BYTES: Final = 1024 * 1024
_MOST_LINES: Final = 1000
_LAST_WORDS: Final = 20
"""Lines of stderr that are kept to say why a program ended."""


class BoardFailedError(UnavailableError):
    """The program of an emulated board ended, and not well."""


class BoardProcess:
    """A program with the memory and processor of a board.

    Args:
        name: of the board, in errors.
        limits: what it is held to.
    """

    def __init__(self, name: str, limits: BoardLimits) -> None:
        self._name = name
        self._limits = limits
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._stderr: deque[str] = deque(maxlen=_LAST_WORDS)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, program: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "boards.emulation.supervisor",
            str(self._limits.memory_mb),
            str(self._limits.cpu_share),
            *program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            limit=_LINE_BYTES,
            start_new_session=True,
        )

    async def first_line(self, within_s: float) -> str:
        """The first line that it prints.

        Raises:
            BoardFailedError: none came.
        """
        try:
            async with asyncio.timeout(within_s):
                line = await self.read_line()
        except TimeoutError:
            raise BoardFailedError(
                f"{self._name}: its program printed no line within {within_s:.0f} s",
                hint="print one when it can serve, as the commands of ockamlite do",
            ) from None
        if not line:
            raise BoardFailedError(f"{self._name}: its program ended before it printed a line")
        return line

    async def read_line(self) -> str:
        """The next line that it prints; empty when it has ended."""
        return await self._lines.get()

    @property
    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return "\n".join(self._stderr)

    async def watch(self) -> None:
        """Read what it writes until it ends.

        Raises:
            BoardFailedError: it ended, and not well.
        """
        process = self._process
        assert process is not None  # noqa: S101  (started before)
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        async with asyncio.TaskGroup() as group:
            group.create_task(_each_line(process.stdout, self._keep), name=f"output of {self._name}")
            group.create_task(_each_line(process.stderr, self._stderr.append), name=f"errors of {self._name}")
        code = await process.wait()
        if code:
            raise self._failed(code)
        self._lines.put_nowait("")

    async def stop(self) -> None:
        """End it, and whatever it started; nothing happens if it was not started."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101  (as it was started)
        process.stdin.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            # A supervisor that ended by itself has waited for the program.
            if process.returncode is None or process.returncode < 0:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                await process.wait()

    def _keep(self, line: str) -> None:
        if self._lines.qsize() < _MOST_LINES:
            self._lines.put_nowait(line)

    def _failed(self, code: int) -> BoardFailedError:
        board = f"{self._name} (an emulated {self._limits.board})"
        said = self.last_words
        if code == OUT_OF_MEMORY or (self._limits.memory_mb and any(word in said for word in _NO_MEMORY)):
            return BoardFailedError(
                f"{board}: its program asked for more than the board's {self._limits.memory_mb} MB of memory",
                hint="a program that needs less, or a board with more: memory_mb=",
            )
        number = -code if code < 0 else code - _SIGNALLED
        reason = f"was ended by signal {number}" if number > 0 else f"ended with code {code}"
        return BoardFailedError(f"{board}: its program {reason}{': ' if said else ''}{said}")


async def _each_line(stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    while True:
        try:
            data = await stream.readline()
        except ValueError:  # longer than any line of text
            continue
        if not data:
            return
        take(data.decode(errors="replace").rstrip("\n"))
