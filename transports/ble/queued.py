"""A connection whose values are written one after the other by a call that waits: bleak's or bumble's."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

from ockamlite.errors import LinkBrokenError
from transports.ble.gatt import LEAST_VALUE_BYTES

if TYPE_CHECKING:
    from ockamlite.errors import OckamError
    from transports.ble.radio import ConnectionUser

GONE: Final = "the device disconnected, or is out of range"
_FLUSH_S: Final = 1.0
_WAITING_VALUES: Final = 16


class QueuedConnection(ABC):
    """See :class:`transports.ble.radio.Connection`; what knows the library is below it."""

    failures: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What the library raises when the device or the radio goes."""
    last_word_s: ClassVar[float] = 0.5
    """How long the peer may take to disconnect once it knows that the link ends; to be the first would
    overtake what was written."""

    def __init__(self, remote: str) -> None:
        self.remote = remote
        self.value_bytes = LEAST_VALUE_BYTES
        self._user: ConnectionUser | None = None
        self._early: deque[bytes] = deque(maxlen=_WAITING_VALUES * 4)
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._gone = False
        self._closing = False
        self._leaving = False
        self._task: asyncio.Task[None] | None = None

    # -- for who knows the library --------------------------------------------------------------

    @abstractmethod
    async def put(self, value: bytes) -> None:
        """Write one value; may raise what :attr:`failures` names."""

    def why(self, failure: Exception) -> str:
        """What it means for a user that a write failed."""
        return f"writing to the device failed: {failure}"

    @abstractmethod
    async def leave(self) -> None:
        """Disconnect, if still connected; raises nothing."""

    def received(self, value: bytes) -> None:
        """A value came."""
        if self._user is None:
            self._early.append(value)
        else:
            self._user.value_received(value)

    def allow(self, value_bytes: int) -> None:
        """Values may be longer from now on."""
        self.value_bytes = value_bytes
        if self._user is not None:
            self._user.room_changed()

    def is_gone(self) -> None:
        """The device, or the radio, is gone."""
        self._gone = True
        self._wake.set()

    @property
    def is_over(self) -> bool:
        """True if it has ended, or is about to."""
        return self._gone or self._closing

    # -- the user's side ------------------------------------------------------------------------

    def start(self, user: ConnectionUser) -> None:
        """Hand on what came and will come."""
        self._user = user
        while self._early:
            user.value_received(self._early.popleft())
        self._begin()

    def write_frame(self, frame: bytes) -> None:
        """Write a value."""
        if not self._closing:
            self._waiting.append(bytes(frame))
            self._wake.set()

    def writable_bytes(self) -> int:
        """Room among what waits for the library."""
        return max(0, _WAITING_VALUES - len(self._waiting)) * self.value_bytes

    def close(self) -> None:
        """Disconnect when all is written."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_later(_FLUSH_S, self.abort)
            self._wake.set()

    def abort(self) -> None:
        """Disconnect."""
        self._closing = self._gone = True
        if self._task is None:
            self._begin()
        elif not self._leaving:
            self._task.cancel()

    # -- inside ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"write to {self.remote}")

    async def _run(self) -> None:
        """Write what waits until the connection ends, then let go of it."""
        error: OckamError | None = None
        try:
            while not self._gone:
                if self._waiting:
                    await self.put(self._waiting[0])
                    self._waiting.popleft()
                    if self._user is not None and not self._closing:
                        self._user.room_changed()
                elif self._closing:
                    await self._wait_gone()
                    break
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except self.failures as failure:
            error = LinkBrokenError(GONE if self._gone else self.why(failure))
        finally:
            # To disconnect may take longer than it takes until somebody aborts.
            self._leaving = True
            await self.leave()
            if not self._closing:
                error = error or LinkBrokenError(GONE)
            user, self._user = self._user, None
            if user is not None:
                user.connection_lost(None if self._closing else error)

    async def _wait_gone(self) -> None:
        try:
            async with asyncio.timeout(self.last_word_s):
                while not self._gone:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass
