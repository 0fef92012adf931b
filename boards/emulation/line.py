"""Emulated serial lines: two ends, a wire each way, the time that bytes take, and everything that goes wrong.

:class:`PtyLine` has real terminals that any program opens as a serial port. It lives in real time: the
kernel moves its bytes. :class:`MemoryLine` has ports for :class:`transports.serial.SerialTransport` in the
same process, and lives in the time of its event loop, which may be a made-up one.

Not emulated by terminals, because the kernel does not do it for them: parity, flow control by wire, error
counters. :class:`MemoryLine` has flow control (:meth:`MemoryLine.hold`).
"""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import termios
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from boards.emulation.uart import QUIET, Noise, Wire
from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from transports.serial.options import LineSettings

RING_BYTES: Final = 4096
"""What a receiver holds that nobody reads, as Linux does."""
_CHUNK_S: Final = 0.002
_LATE_S: Final = 0.05
"""How far a busy line catches up if the event loop was late."""
_BITS: Final = 10

_BAUDS: Final = {
    getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()
}


class Pace:
    """When bytes have crossed a line that sends one behind the other."""

    def __init__(self) -> None:
        self.free_at = 0.0

    def send(self, count: int, now: float, bytes_per_s: float, *, is_busy: bool = False) -> float:
        """Send ``count`` bytes; when the last has crossed.

        Args:
            count: how many.
            now: the time.
            bytes_per_s: the line's.
            is_busy: these were waiting for those before, so that being told late costs nothing.
        """
        begin = max(self.free_at, now - _LATE_S) if is_busy else max(self.free_at, now)
        self.free_at = begin + count / bytes_per_s
        return self.free_at


class PtyLine:
    """A line between two terminals. Use it as ``async with PtyLine() as line:`` and open ``line.devices``.

    Args:
        devices: names for the ends, made as links to the terminals, which come and go as an adapter is
            plugged in and pulled; without them the terminals' own names are used.
        baud: the line's speed; without it each end sends and reads at what its terminal is set to, and an
            end that is set otherwise than the other reads garbage.
        noise: how bad the wires are, both ways.
        seed: decides all faults.
    """

    def __init__(
        self,
        devices: Sequence[str | Path] = (),
        *,
        baud: int | None = None,
        noise: Noise = QUIET,
        seed: int = 0,
    ) -> None:
        if len(devices) not in (0, 2):
            raise ValueError("a line has two ends")
        self.baud = baud
        self.wires = (Wire(noise, seed=2 * seed), Wire(noise, seed=2 * seed + 1))
        """From the first end to the second, and back."""
        self.overrun_bytes = 0
        """Bytes lost because nobody read them in time."""
        self.crossed_bytes = [0, 0]
        """Bytes that were sent, each way."""
        self._names = [Path(os.path.abspath(device)) for device in devices]  # noqa: PTH100  (links stay)
        self._ends: list[_PtyEnd | None] = [None, None]
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        """Plug both ends in."""
        for end in (0, 1):
            self.plug(end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        self.close()

    @property
    def devices(self) -> tuple[str, str]:
        """What to open at each end."""
        first, second = (
            str(self._names[number]) if self._names else end.terminal if end is not None else ""
            for number, end in enumerate(self._ends)
        )
        return first, second

    def plug(self, end: int) -> None:
        """Plug an end in: it gets a terminal, another one each time."""
        if self._ends[end] is not None:
            return
        made = _PtyEnd()
        self._ends[end] = made
        if self._names:
            name = self._names[end]
            fresh = name.with_name(f".{name.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(made.terminal)
            fresh.replace(name)
        self._watch(end)

    def unplug(self, end: int) -> None:
        """Pull an end out: who has it open is hung up, its name is gone, the other end hears nothing."""
        found = self._ends[end]
        if found is None:
            return
        self._ends[end] = None
        if self._names:
            self._names[end].unlink(missing_ok=True)
        self._loop.remove_reader(found.master)
        found.close()

    def inject(self, end: int, data: bytes) -> None:
        """Let bytes come to an end that the other end did not send: a console, a boot loader, noise."""
        self._deliver(end, data)

    def close(self) -> None:
        """Take the line away; may be called twice."""
        for end in (0, 1):
            self.unplug(end)

    def _watch(self, end: int) -> None:
        here = self._ends[end]
        if here is not None:
            self._loop.add_reader(here.master, self._readable, end, here)

    def _readable(self, end: int, here: _PtyEnd) -> None:
        rate = (self.baud or here.baud) / _BITS
        try:
            data = os.read(here.master, max(1, int(rate * _CHUNK_S)))
        except OSError:
            return
        now = self._loop.time()
        gone_at = here.pace.send(len(data), now, rate, is_busy=here.is_busy)
        here.is_busy = True
        self._loop.remove_reader(here.master)
        self._loop.call_at(gone_at, self._crossed, end, here, data)

    def _crossed(self, end: int, here: _PtyEnd, data: bytes) -> None:
        if self._ends[end] is not here:
            return
        there = self._ends[1 - end]
        if there is not None:
            sent_baud, read_baud = (0, 0) if self.baud else (here.baud, there.baud)
            self._deliver(1 - end, self.wires[end].carry(data, sent_baud, read_baud))
        self.crossed_bytes[end] += len(data)
        # Bytes that wait already were waiting for these; others find an idle line.
        here.is_busy = here.has_more()
        self._watch(end)

    def _deliver(self, end: int, data: bytes) -> None:
        there = self._ends[end]
        if there is None:
            return
        room = max(0, RING_BYTES - there.unread())
        try:
            written = os.write(there.master, data[:room]) if room and data else 0
        except OSError:
            written = 0
        self.overrun_bytes += len(data) - written


class _PtyEnd:
    """A terminal and its other side."""

    def __init__(self) -> None:
        # The terminal stays open here, or the last program to close it would hang it up.
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.terminal = os.ttyname(self._slave)
        self.pace = Pace()
        self.is_busy = False

    @property
    def baud(self) -> int:
        """What the terminal is set to."""
        return _BAUDS.get(termios.tcgetattr(self._slave)[4], 0) or 115_200

    def has_more(self) -> bool:
        """True if the program has written more."""
        return _waiting(self.master) > 0

    def unread(self) -> int:
        """Bytes that came and were not read."""
        return _waiting(self._slave)

    def close(self) -> None:
        """Hang up."""
        os.close(self.master)
        os.close(self._slave)


def _waiting(terminal: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(terminal, termios.FIONREAD, count)
    return count[0]


class MemoryLine:
    """A line within a process, for ``SerialTransport(limits, open_port=line.open_port)``.

    Its ends are the devices ``a`` and ``b``, or what ``devices`` says.
    """

    def __init__(self, devices: tuple[str, str] = ("a", "b"), *, noise: Noise = QUIET, seed: int = 0) -> None:
        self.devices = devices
        self.wires = (Wire(noise, seed=2 * seed), Wire(noise, seed=2 * seed + 1))
        """From the first end to the second, and back."""
        self.crossed_bytes = [0, 0]
        self.overrun_bytes = 0
        self._ports: list[MemoryPort | None] = [None, None]
        self._plugged = [True, True]

    async def open_port(self, settings: LineSettings, protocol: asyncio.Protocol) -> MemoryPort:
        """Open an end; see :class:`transports.serial.port.OpenPort`."""
        end = self.devices.index(settings.device) if settings.device in self.devices else -1
        if end < 0 or not self._plugged[end]:
            raise UnavailableError(f"{settings.device}: no such device")
        if self._ports[end] is not None:
            raise UnavailableError(f"{settings.device}: in use by this process")
        port = MemoryPort(self, end, settings, protocol)
        self._ports[end] = port
        protocol.connection_made(port)
        return port

    def plug(self, end: int) -> None:
        """Plug an end in again."""
        self._plugged[end] = True

    def unplug(self, end: int) -> None:
        """Pull an end out; who has it open loses it."""
        self._plugged[end] = False
        port = self._ports[end]
        if port is not None:
            port.lose(OSError(errno.EIO, os.strerror(errno.EIO)))

    def hold(self, end: int, *, is_held: bool) -> None:
        """Let the other end's flow control stop an end, or let it go on."""
        port = self._ports[end]
        if port is not None:
            port.set_held(is_held=is_held)

    def inject(self, end: int, data: bytes) -> None:
        """Let bytes come to an end that the other end did not send."""
        port = self._ports[end]
        if port is not None:
            port.take(data)

    def carry(self, end: int, data: bytes, baud: int) -> None:
        """Bytes have left an end."""
        self.crossed_bytes[end] += len(data)
        there = self._ports[1 - end]
        if there is not None:
            there.take(self.wires[end].carry(data, baud, there.settings.baud))

    def closed(self, end: int) -> None:
        """An end was closed."""
        self._ports[end] = None


class MemoryPort(asyncio.Transport):
    """One open end of a :class:`MemoryLine`; see :class:`transports.serial.port.Port`."""

    def __init__(
        self, line: MemoryLine, end: int, settings: LineSettings, protocol: asyncio.Protocol
    ) -> None:
        super().__init__()
        self.settings = settings
        self._line = line
        self._end = end
        self._protocol: asyncio.Protocol | None = protocol
        self._loop = asyncio.get_running_loop()
        self._out = bytearray()
        self._ring = bytearray()
        self._pace = Pace()
        self._timer: asyncio.TimerHandle | None = None
        self._held = False
        self._reading = True
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[type-arg, unused-ignore]
        """See :class:`asyncio.WriteTransport`."""
        if not self._closing:
            self._out += data
            self._send(is_busy=False)

    def waiting_bytes(self) -> int:
        """Bytes that have not left."""
        return len(self._out)

    def pause_reading(self) -> None:
        """Leave what comes in the ring."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self._reading = True
        data, self._ring = bytes(self._ring), bytearray()
        self.take(data)

    def close(self) -> None:
        """Close when what was written has left, or after a second."""
        if self._closing:
            return
        self._closing = True
        if self._out:
            self._loop.call_later(1.0, self.lose, None)
        else:
            self._loop.call_soon(self.lose, None)

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._loop.call_soon(self.lose, None)

    def set_held(self, *, is_held: bool) -> None:
        """Obey the other end's flow control."""
        self._held = is_held and self.settings.rtscts
        self._send(is_busy=False)

    def take(self, data: bytes) -> None:
        """Bytes came."""
        if self._protocol is None or not data:
            return
        if self._reading:
            self._protocol.data_received(data)
        else:
            room = RING_BYTES - len(self._ring)
            self._ring += data[:room]
            self._line.overrun_bytes += max(0, len(data) - room)

    def lose(self, error: Exception | None) -> None:
        """The port is closed, or lost."""
        protocol, self._protocol = self._protocol, None
        if protocol is None:
            return
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._line.closed(self._end)
        protocol.connection_lost(error)

    def _send(self, *, is_busy: bool) -> None:
        if self._timer is not None or not self._out or self._held:
            return
        rate = self.settings.bytes_per_s
        count = min(len(self._out), max(1, int(rate * _CHUNK_S)))
        gone_at = self._pace.send(count, self._loop.time(), rate, is_busy=is_busy)
        self._timer = self._loop.call_at(gone_at, self._crossed, count)

    def _crossed(self, count: int) -> None:
        self._timer = None
        data = bytes(self._out[:count])
        del self._out[:count]
        self._send(is_busy=True)
        self._line.carry(self._end, data, self.settings.baud)
        if self._closing and not self._out:
            self.lose(None)
