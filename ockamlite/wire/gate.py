"""Back-pressure without tasks: a gate that is shut while something cannot take more."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_AT_ONCE = 2
"""Waiters let through per turn of the loop: each will add a chunk, and all at once would flood."""


class Gate:
    """Shut while a link, an application or a mailbox is full.

    Whoever hands something on gets a gate back when it should wait before handing on more. What was
    handed on has been taken in any case: nothing is dropped and nothing grows by more than one piece
    per sender.
    """

    __slots__ = ("_loop", "_releasing", "_waiters", "is_shut", "owner", "shut_since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: deque[Callable[[], None]] = deque()
        self._releasing = False
        self.is_shut = False
        self.shut_since = 0.0
        """The loop's time when it was shut, if it is."""
        self.owner: object = None
        """For the gate of a link of a node: that link."""

    def shut(self) -> None:
        """Make senders wait."""
        if not self.is_shut:
            self.is_shut = True
            self.shut_since = self._loop.time()

    def open(self) -> None:
        """Let the waiting senders through, in order, a few per turn of the loop."""
        self.is_shut = False
        if self._waiters and not self._releasing:
            self._releasing = True
            self._loop.call_soon(self._release)

    def when_open(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, when it may hand on more; soon if the gate is open already."""
        self._waiters.append(callback)
        if not self.is_shut:
            self.open()

    async def wait(self) -> None:
        """Wait until the gate opens."""
        if not self.is_shut:
            return
        await self._passed(self._waiters.append)
        if self.is_shut:
            # Who was let through together with us was quicker: next time we are the first.
            await self._passed(self._waiters.appendleft)

    async def _passed(self, line_up: Callable[[Callable[[], None]], None]) -> None:
        passed = self._loop.create_future()

        def passes() -> None:
            if not passed.done():
                passed.set_result(None)

        line_up(passes)
        await passed

    def _release(self) -> None:
        self._releasing = False
        for _ in range(_AT_ONCE):
            if self.is_shut or not self._waiters:
                return
            self._waiters.popleft()()
        if self._waiters and not self.is_shut:
            self._releasing = True
            self._loop.call_soon(self._release)
