"""A serial port as an asyncio transport: pyserial-asyncio, with what it does badly done otherwise.

The only module that knows pyserial and pyserial-asyncio. What differs from pyserial-asyncio 0.6:

- it opens outside of the event loop;
- it never waits for a line to drain on the event loop: a line that is held by its flow control would
  stop the whole node;
- the device is closed before the protocol is told that the connection is lost, so that it can be opened
  again at once;
- few bytes wait in it; an unplugged device is an error for the protocol, not a traceback.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import serial_asyncio  # type: ignore[import-untyped]

from ockamlite.errors import OckamError, UnavailableError
from transports.serial import users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transports.serial.options import LineSettings

logger = logging.getLogger(__name__)

_pyserial: Final[Any] = serial_asyncio.serial
_READ_BYTES: Final = 4096
_DRAIN_S: Final = 1.0
"""How long a port that is closed may take to send what waits in it."""
_DRAIN_LOOK_S: Final = 0.01


class Port(Protocol):
    """An open serial port. Tells its protocol of bytes (``data_received``) and of its end."""

    def write(self, data: bytes) -> None:
        """Send bytes; what cannot go out at once waits."""

    def waiting_bytes(self) -> int:
        """Bytes written that have not left yet, as far as the system tells."""

    def pause_reading(self) -> None:
        """Leave what comes to the system, which keeps some kilobytes."""

    def resume_reading(self) -> None:
        """Read again."""

    def close(self) -> None:
        """Send what waits, for a second at most, then close."""

    def abort(self) -> None:
        """Close at once."""


class OpenPort(Protocol):
    """How a port is opened: the seam where other libraries and emulated lines fit in."""

    def __call__(self, settings: LineSettings, protocol: asyncio.Protocol) -> Awaitable[Port]:
        """Open it; ``protocol.connection_made`` is called with the port.

        Raises:
            UnavailableError: it cannot be opened; says why, and who has it.
        """


async def open_port(
    settings: LineSettings, protocol: asyncio.Protocol, *, root: Path = users.ROOT
) -> SerialPort:
    """Open a serial port of this machine; see :class:`OpenPort`."""
    loop = asyncio.get_running_loop()
    login = users.login_on(settings.device, root)
    if login is not None:
        raise UnavailableError(
            f"{settings.device}: a login prompt is on this line, {login}",
            hint=users.login_fix(settings.device),
        )
    if users.is_console(settings.device, root):
        logger.warning(
            "%s: the kernel writes its messages to this line; try: %s",
            settings.device,
            users.console_fix(settings.device),
        )
    opening = loop.run_in_executor(None, _open, settings)
    try:
        device = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    except OSError as error:
        raise _unavailable(settings.device, error) from error
    except ValueError as error:
        raise UnavailableError(f"{settings.device}: {error}") from error
    return SerialPort(loop, protocol, device)


def _open(settings: LineSettings) -> Any:
    return _pyserial.Serial(
        settings.device,
        baudrate=settings.baud,
        parity=settings.parity,
        stopbits=settings.stop_bits,
        rtscts=settings.rtscts,
        exclusive=True,
    )


def _close_late(opening: asyncio.Future[Any]) -> None:
    """Close a port whose opener did not wait for it."""
    if not opening.cancelled() and opening.exception() is None:
        _ = opening.get_loop().run_in_executor(None, opening.result().close)


_LISTED = "ockamlite scan serial lists the ports that there are"


def _unavailable(device: str, error: OSError) -> OckamError:
    number = error.errno
    if number is None and isinstance(error.__context__, _TERMIOS_ERRORS):
        number = error.__context__.args[0]  # pyserial keeps it in a text of its own
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return UnavailableError(f"{device}: no such device", hint=_others())
    if number in (errno.EACCES, errno.EPERM):
        reason, hint = users.permission_fix(device)
        return UnavailableError(f"{device}: {reason}", hint=hint)
    if number == errno.ENOTTY:
        return UnavailableError(f"{device}: this is no serial line", hint=_LISTED)
    if number in (errno.EAGAIN, errno.EBUSY) or "exclusively lock" in str(error):
        holder = users.holder_of(device)
        by = f"by {holder}" if holder is not None else "by another program"
        return UnavailableError(
            f"{device}: in use {by}", hint="a line carries one link; end the other program"
        )
    text = os.strerror(number).lower() if number else str(error)
    return UnavailableError(f"{device}: {text}")


def _others() -> str:
    """The ports that there are, for who names one that there is not."""
    try:
        found = sorted(str(path) for path in Path("/dev/serial/by-id").iterdir())
    except OSError:
        return _LISTED
    return f"plug it in, or one of: {', '.join(found)}" if found else _LISTED


class SerialPort(serial_asyncio.SerialTransport):  # type: ignore[misc]
    """An open serial port of this machine."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, device: Any) -> None:
        super().__init__(loop, protocol, device)
        self._protocol: asyncio.Protocol | None = protocol
        self._serial: Any = device
        self._loop: asyncio.AbstractEventLoop = loop
        self._max_read_size = _READ_BYTES
        self._aborted = False
        self._ended = False

    def waiting_bytes(self) -> int:
        """See :class:`Port`."""
        waiting: int = self.get_write_buffer_size()
        if self._serial is not None and not self._closing:
            try:
                waiting += self._serial.out_waiting
            except OSError:
                pass
        return waiting

    def _read_ready(self) -> None:
        try:
            data = self._serial.read(self._max_read_size)
        except OSError as error:
            self._abort(error)
            return
        if data and self._protocol is not None:
            self._protocol.data_received(data)

    def _fatal_error(self, exc: BaseException, message: str = "") -> None:
        self._abort(exc)

    def close(self) -> None:
        """See :class:`Port`."""
        if not self._closing:
            super().close()
            if self.get_write_buffer_size():
                self._loop.call_later(_DRAIN_S, self._abort, None)

    def _abort(self, exc: BaseException | None) -> None:
        if self._aborted or self._ended:
            self._aborted = True  # a port that drains does so no longer
            return
        self._aborted = True
        self._write_buffer.clear()
        super()._abort(exc)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        """Close the device, outside of the event loop, then tell the protocol."""
        if self._ended:
            return
        self._ended = True
        self._remove_writer()
        self._drain(exc, self._loop.time() + _DRAIN_S)

    def _drain(self, exc: BaseException | None, deadline: float) -> None:
        if exc is None and not self._aborted and self._loop.time() < deadline and self._is_sending():
            self._loop.call_later(_DRAIN_LOOK_S, self._drain, exc, deadline)
            return
        closing = self._loop.run_in_executor(None, _close, self._serial)
        closing.add_done_callback(lambda _: self._lost(exc))

    def _is_sending(self) -> bool:
        try:
            return bool(self._serial.out_waiting)
        except OSError:
            return False

    def _lost(self, exc: BaseException | None) -> None:
        protocol, self._protocol, self._serial = self._protocol, None, None
        if protocol is not None:
            protocol.connection_lost(exc if isinstance(exc, Exception) else None)


def _close(device: Any) -> None:
    """Close a device; the system would wait half a minute for bytes that cannot leave."""
    discards: tuple[Callable[[], None], ...] = (device.reset_output_buffer, device.reset_input_buffer)
    for discard in discards:
        try:
            discard()
        except (OSError, _pyserial.SerialException, *_TERMIOS_ERRORS):
            pass
    try:
        device.close()
    except OSError:
        pass


try:
    import termios
except ImportError:
    _TERMIOS_ERRORS: tuple[type[Exception], ...] = ()
else:
    _TERMIOS_ERRORS = (termios.error,)
