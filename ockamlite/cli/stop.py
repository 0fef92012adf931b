"""What ends a command from outside: a signal, or nobody reading.

Not KeyboardInterrupt and BrokenPipeError: click and asyncio have ideas of their own about those.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

SERVING: Final = frozenset({"emulate", "inlet", "node", "outlet", "relay"})
"""Commands that run until they are told to stop: for them a signal is a clean end."""


def end_at_once() -> None:
    """Let SIGINT and SIGTERM end the process: before an event loop takes over, and after it, nothing runs.

    What a handler raises instead would be lost now and then, in a callback while something is imported.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0 if sys.argv[1:2] and sys.argv[1] in SERVING else 128 + number)


class StoppedError(BaseException):
    """SIGINT or SIGTERM came.

    Attributes:
        number: which.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class ReaderGoneError(Exception):
    """Nobody reads what we print any more."""
