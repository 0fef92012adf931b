"""Applications that take nothing: they hold the link under them for everybody, but not for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOOKS: Final = 4
"""How often we look whether something is taken, within the time after which a connection is ended."""


class Reader(Protocol):
    """The connection of an application, as far as it is watched."""

    @property
    def taken_bytes(self) -> int:
        """What the application has taken so far."""

    @property
    def holds(self) -> bool:
        """True while it holds the link."""

    @property
    def is_owed(self) -> bool:
        """True if the connection has ended, and what waits is all that is left of it."""

    def neighbours(self) -> Iterable[Reader]:
        """Who shares the link."""

    def watch_stall(self) -> None:
        """Watch it, if something waits for its application and nobody watches it yet."""

    def stalled(self, stall_s: float) -> None:
        """It took nothing for so long: end it."""

    def moves(self) -> None:
        """It takes what comes: the watch is over."""


class StallWatch:
    """Ends a connection whose application holds the link and took nothing for ``stall_s``.

    While it does, its neighbours are watched as well: who took nothing all that time and comes to
    hold the link next is ended at once. Else each of many such readers would hold it anew.
    """

    __slots__ = ("_looks", "_loop", "_reader", "_stall_s", "_taken_bytes", "_timer")

    def __init__(self, reader: Reader, stall_s: float) -> None:
        self._reader = reader
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._looks = 0
        """How often we looked since something was taken."""
        self._taken_bytes = reader.taken_bytes
        self._timer = self._loop.call_later(stall_s / _LOOKS, self._look)

    def cancel(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def holds_now(self) -> None:
        """The application is the one that holds the link, from now on."""
        if self._looks >= _LOOKS:
            self._timer.cancel()
            self._timer = self._loop.call_later(0, self._look)

    def _look(self) -> None:
        reader = self._reader
        before, self._taken_bytes = self._taken_bytes, reader.taken_bytes
        self._looks = self._looks + 1 if self._taken_bytes <= before else 0
        holds = reader.holds
        if self._looks >= _LOOKS and (holds or reader.is_owed):
            reader.stalled(self._stall_s)
            return
        if not (self._looks or holds or reader.is_owed):
            reader.moves()
            return
        if holds:
            for neighbour in reader.neighbours():
                neighbour.watch_stall()
        self._timer = self._loop.call_later(self._stall_s / _LOOKS, self._look)
