"""Lines for people and programs that may not read them: written by a thread, dropped when it is stuck."""

from __future__ import annotations

import os
import queue
import threading
from typing import Final

_MOST_LINES: Final = 2000
_LAST_S: Final = 0.3
"""How long the last lines may take when we end."""


class LineWriter:
    """Writes lines to a descriptor without ever holding up who has them written.

    A program that starts ours and reads its first line only would otherwise stop a tunnel once the
    pipe is full. What does not fit is dropped and counted.
    """

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        """Lines that nobody read in time."""
        self.broken: OSError | None = None
        """Why nothing can be written any more; None while it can."""
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MOST_LINES)
        self._thread = threading.Thread(target=self._run, name=f"lines to {descriptor}", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Write a line, soon."""
        if self.broken is not None:
            return
        try:
            self._lines.put_nowait(f"{line}\n".encode(errors="backslashreplace"))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, if that goes quickly; may be called twice."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                write_all(self._descriptor, line)
            except OSError as error:
                self.broken = error
                return


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; blocks."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
