"""What ends a command from outside: a signal, or nobody reading.

Not KeyboardInterrupt and BrokenPipeError: click and asyncio have ideas of their own about those.
"""

from __future__ import annotations


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
