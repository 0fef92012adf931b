"""One open serial line: bytes in and out of a port, frames in and out of a link's engine.

It hands the port no more than is about to leave, because what lies in the system's queue cannot be
overtaken by what is more urgent; and it tells what seems wrong with a line on which no link comes up.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Final

from ockamlite.errors import LinkBrokenError, OckamError, UnavailableError
from ockamlite.wire.reliable.frames import DATA_OVERHEAD_BYTES
from transports.serial.cobs import Unpacker, line_bytes, pack

if TYPE_CHECKING:
    from ockamlite.wire.reliable.profile import Profile
    from transports.reliable import ReliableShell
    from transports.serial.options import LineSettings
    from transports.serial.port import Port

logger = logging.getLogger(__name__)

_SLACK_S: Final = 0.010
"""How long before the line falls idle it is given the next frame: more than the loop is ever late."""
_IDLE_S: Final = 0.1
"""After such a pause a frame gets a zero in front: noise may have come since the last one."""
SUSPICION_S: Final = 4.0
"""Noise for this long without one good frame is reported."""
_FEW_BYTES: Final = 3
_TEXT_RATIO: Final = 0.9


class SerialLine(asyncio.Protocol):
    """A port with framing; see :class:`transports.reliable.FramePipe`."""

    def __init__(self, settings: LineSettings, profile: Profile) -> None:
        self.settings = settings
        self.shell: ReliableShell | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the port is closed and may be opened again."""
        self.suspicion: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with what seems wrong, when noise came for a while and not one good frame."""
        self._loop = asyncio.get_running_loop()
        self._port: Port | None = None
        self._unpacker = Unpacker(max(profile.payload_accept, profile.payload_max) + DATA_OVERHEAD_BYTES)
        self._rate = settings.bytes_per_s
        self._slack_bytes = max(16, int(_SLACK_S * self._rate))
        self._frame_bytes = line_bytes(profile.payload_max + DATA_OVERHEAD_BYTES)
        self._free_at = 0.0
        """When the line will have sent what was written, if nothing stops it."""
        self._wake: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._good = 0
        self._came = 0
        self._closing = False

    def opened(self, port: Port, shell: ReliableShell) -> None:
        """Begin: the port is open."""
        self._port = port
        self.shell = shell
        shell.start()

    @property
    def is_closing(self) -> bool:
        """True if the port is being closed, and not closed yet."""
        return self._closing and not self.closed.done()

    @property
    def is_silent(self) -> bool:
        """True if not a byte has come."""
        return not self._came

    # -- the shell's side -----------------------------------------------------------------------

    def write_frame(self, frame: bytes) -> None:
        """Send a frame."""
        if self._port is None or self._closing:
            return
        now = self._loop.time()
        data = pack(frame)
        if now - self._free_at >= _IDLE_S:
            data = b"\0" + data
        self._free_at = max(now, self._free_at) + len(data) / self._rate
        self._port.write(data)
        self._wake_when_free()

    def writable_bytes(self) -> int:
        """Room for one frame at least, or 0."""
        if self._port is None or self._closing:
            return 0
        by_clock = int((self._free_at - self._loop.time()) * self._rate)
        waiting = max(0, by_clock, self._port.waiting_bytes())
        if waiting > self._slack_bytes:
            self._wake_when_free()
            return 0
        return self._frame_bytes + self._slack_bytes - waiting

    def close(self) -> None:
        """Send what was written, then close."""
        self._closing = True
        if self._port is not None:
            self._port.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._port is not None:
            self._port.abort()

    # -- the port's side ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Cut out the frames."""
        self._came += len(data)
        if self._watch is None and not self.suspicion.done():
            self._watch = self._loop.call_later(SUSPICION_S, self._judge, self._good)
        for frame in self._unpacker.feed(data):
            if self._closing or self.shell is None:
                return
            if frame is not None:
                self._good += 1
                self.shell.frame_received(frame)
            else:
                self.shell.bad_frame()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the shell."""
        for timer in (self._wake, self._watch):
            if timer is not None:
                timer.cancel()
        self._port = None
        if not self.closed.done():
            self.closed.set_result(None)
        error: OckamError | None = None
        if exc is not None:
            error = LinkBrokenError(f"{self.settings.device}: unplugged, or lost: {_words(exc)}")
        if self.shell is not None:
            self.shell.pipe_lost(error)

    # -- what seems wrong -----------------------------------------------------------------------

    def diagnosis(self) -> str:
        """Why no link has come up, as far as this end can tell."""
        device, baud = self.settings.device, self.settings.baud
        mismatch = self.shell.mismatch if self.shell is not None else None
        if mismatch is not None:
            return (
                f"{device}: the other end speaks version {mismatch.theirs} of the link, "
                f"this one {mismatch.ours}: update the older one"
            )
        if self.shell is not None and self.shell.engine.hears_itself:
            return f"{device}: our own bytes come back: is its TX wired to its RX, or does a shell echo them?"
        if self._good:
            return f"{device}: we hear the other end, but it does not hear us: is our TX wired to its RX?"
        if self._is_text():
            return f"{device}: text came instead of frames: a console or a boot loader uses the line"
        if self._came >= _FEW_BYTES:
            return (
                f"{device}: {self._came} bytes came and no whole frame: "
                f"do both ends have the same baud and parity ({baud} here)?"
            )
        if self.settings.rtscts and self._port is not None and self._port.waiting_bytes():
            return f"{device}: nothing can be sent: the other end does not raise CTS; try flow=none"
        return f"{device}: nobody answers: nothing came over the line ({baud} baud)"

    def _is_text(self) -> bool:
        unframed, printable = self._unpacker.unframed()
        return unframed >= 16 and printable >= _TEXT_RATIO * unframed

    def _judge(self, good_before: int) -> None:
        """Look back at the seconds since bytes came: was there a frame among them?"""
        self._watch = None
        if self._closing or self._good != good_before:
            return
        if not good_before and self._came < _FEW_BYTES:
            return
        found = self.diagnosis() if not good_before else self._turned_bad()
        logger.warning("%s", found)
        # Text may be that of a machine that starts: a link can still come up.
        if not self._is_text() and not self.suspicion.done():
            self.suspicion.set_result(found)

    def _turned_bad(self) -> str:
        return (
            f"{self.settings.device}: for {SUSPICION_S:.0f} s only damage came: "
            f"has the other end changed its baud ({self.settings.baud} here)?"
        )

    # -- inside ---------------------------------------------------------------------------------

    def _wake_when_free(self) -> None:
        if self._wake is None:
            at = max(self._free_at - _SLACK_S, self._loop.time() + _SLACK_S / 4)
            self._wake = self._loop.call_at(at, self._woken)

    def _woken(self) -> None:
        self._wake = None
        if self.shell is not None and not self._closing:
            self.shell.pipe_ready()


def _words(exc: BaseException) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    if "readiness" in str(exc):
        return "the device is gone"
    # pyserial wraps the system's words, its numbers included.
    return re.sub(r"\[Errno \d+\] ", "", str(exc)).lower() or type(exc).__name__


def unavailable(line: SerialLine) -> UnavailableError:
    """The error for a line on which no link came up."""
    hint = "a node must use its other end, at the same baud, TX wired to RX" if line.is_silent else ""
    return UnavailableError(line.diagnosis(), hint=hint)
