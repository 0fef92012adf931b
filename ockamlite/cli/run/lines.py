"""Lines for people and programs that may not read them: written by a thread, dropped when it is stuck."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Final

_MOST_LINES: Final = 2000
_PAUSE_S: Final = 0.02
"""Between two writes: many lines then cost one wake-up of the thread, not one each."""
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
        self._lines: deque[bytes] = deque()
        self._ended = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lines to {descriptor}", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Write a line, soon."""
        if self.broken is not None:
            return
        if len(self._lines) >= _MOST_LINES:
            self.dropped += 1
            return
        self._lines.append(f"{line}\n".encode(errors="backslashreplace"))
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what waits, if that goes quickly; may be called twice."""
        self._ended = True
        self._wake.set()
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        while not self._ended or self._lines:
            self._wake.wait()
            self._wake.clear()
            batch = b"".join(self._lines.popleft() for _ in range(len(self._lines)))
            try:
                write_all(self._descriptor, batch)
            except OSError as error:
                self.broken = error
                return
            if not self._ended:
                time.sleep(_PAUSE_S)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; blocks."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
