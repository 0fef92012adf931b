"""What a signal raises. Not a KeyboardInterrupt: click and asyncio have ideas of their own about those."""

from __future__ import annotations


class StoppedError(BaseException):
    """SIGINT or SIGTERM came.

    Attributes:
        number: which.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
