"""The serial transport: links over UARTs and USB adapters. Both ends are equal: there is no master.

``connect`` and ``listen`` both open the port. Who connects speaks first and gets one link, or an error
that says what seems wrong; who listens waits, silently, and takes a link whenever the other end shows up,
also after that was restarted or the adapter was unplugged and plugged in again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from ockamlite.errors import OckamError, UnavailableError
from ockamlite.wire.reliable.engine import ReliableLink
from ockamlite.wire.reliable.profile import Profile
from transports.reliable import ReliableShell
from transports.serial.line import SerialLine, unavailable
from transports.serial.options import OPTIONS, LineSettings, line_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ockamlite.limits import Limits
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.wire.link import Link
    from transports.serial.port import OpenPort

logger = logging.getLogger(__name__)

CONNECT_S: Final = 10.0
"""How long who connects waits for the other end: it may be starting."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""Between two tries of a listener to open its port again."""


class SerialTransport:
    """Makes links over serial lines; see :class:`ockamlite.wire.link.Transport`.

    Args:
        limits: bounds.
        open_port: opens ports; those of this machine if absent.
        new_session: gives 32 random bits, not all zero.
    """

    kind: ClassVar[str] = "serial"
    options: ClassVar[Collection[str]] = OPTIONS

    def __init__(
        self,
        limits: Limits,
        *,
        open_port: OpenPort | None = None,
        new_session: Callable[[], int] = lambda: secrets.randbits(32) or 1,
    ) -> None:
        self._limits = limits
        self._open_port = open_port
        self._new_session = new_session
        self._lines: dict[str, SerialLine] = {}
        """The line last opened on each device."""

    async def connect(self, endpoint: Endpoint) -> Link:
        """Open the port and wait for the other end."""
        try:
            return await self._connect(endpoint, line_settings(endpoint))
        except UnavailableError as error:
            raise UnavailableError(f"{endpoint}: {error}", hint=error.hint) from error

    async def _connect(self, endpoint: Endpoint, settings: LineSettings) -> Link:
        link: asyncio.Future[Link] = asyncio.get_running_loop().create_future()

        def accept(made: Link) -> None:
            if link.done():
                made.close()
            else:
                link.set_result(made)

        def ended(error: OckamError | None) -> None:
            if not link.done():
                link.set_exception(error or UnavailableError("closed"))

        line = await self.open(endpoint, settings, accept, ended, once=True)
        try:
            await asyncio.wait((link, line.suspicion), timeout=CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
            if not link.done():
                raise unavailable(line)
            return link.result()
        except BaseException:
            line.abort()
            link.cancel()
            raise

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> SerialListener:
        """Open the port and take a link whenever the other end shows up."""
        listener = SerialListener(self, endpoint, line_settings(endpoint), accept)
        try:
            await listener.open()
        except UnavailableError as error:
            raise UnavailableError(f"cannot listen at {endpoint}: {error}", hint=error.hint) from error
        return listener

    async def open(
        self,
        endpoint: Endpoint,
        settings: LineSettings,
        accept: Callable[[Link], None],
        ended: Callable[[OckamError | None], None],
        *,
        once: bool,
    ) -> SerialLine:
        """Open a port with a link's engine behind it.

        Args:
            endpoint: what was asked for.
            settings: the same, read.
            accept: called with each link.
            ended: called when the port is closed.
            once: speak first, and close the port behind the first link.

        Raises:
            UnavailableError: it cannot be opened.
        """
        device = _real(settings.device)
        earlier = self._lines.get(device)
        if earlier is not None and earlier.is_closing:
            await asyncio.wait((earlier.closed,), timeout=CONNECT_S)
        # Who listens keeps silent: what a boot loader hears, it takes for a key pressed to stop it.
        profile = dataclasses.replace(Profile.serial(settings.baud), speaks_first=once)
        line = SerialLine(settings, profile)
        if self._open_port is None:
            # Imported here: it brings pyserial, which only real ports need.
            from transports.serial.port import open_port

            self._open_port = open_port
        port = await self._open_port(settings, line)
        self._lines[device] = line
        loop = asyncio.get_running_loop()
        engine = ReliableLink(profile, session=self._new_session(), now=loop.time(), limits=self._limits)
        shell = ReliableShell(
            engine,
            line,
            endpoint=str(endpoint),
            remote=settings.device,
            limits=self._limits,
            accept=accept,
            ended=ended,
            once=once,
        )
        line.opened(port, shell)
        return line


def _real(device: str) -> str:
    """The device behind links such as those of ``/dev/serial/by-id``."""
    return str(Path(device).resolve())


class SerialListener:
    """A port that is kept open for whoever shows up at its other end."""

    def __init__(
        self,
        transport: SerialTransport,
        endpoint: Endpoint,
        settings: LineSettings,
        accept: Callable[[Link], None],
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._settings = settings
        self._accept = accept
        self._loop = asyncio.get_running_loop()
        self._line: SerialLine | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Open the port for the first time.

        Raises:
            UnavailableError: it cannot be opened.
        """
        self._line = await self._transport.open(
            self.endpoint, self._settings, self._take, self._ended, once=False
        )

    async def close(self) -> None:
        """Accept no more; a link that is open stays."""
        self._closed = True
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.wait((self._reopening,))
        line, self._line = self._line, None
        if line is not None and line.shell is not None and not line.shell.has_session:
            line.abort()
            await asyncio.wait((line.closed,), timeout=1.0)

    def _take(self, link: Link) -> None:
        if self._closed:
            link.close()
        else:
            self._accept(link)

    def _ended(self, error: OckamError | None) -> None:
        if self._closed:
            return
        logger.info("%s: %s; waiting for it to come back", self.endpoint, error or "closed here")
        self._reopening = self._loop.create_task(self._open_again(), name=f"reopening {self.endpoint}")

    async def _open_again(self) -> None:
        pause = FIRST_PAUSE_S
        told = ""
        while True:
            await asyncio.sleep(pause)
            try:
                await self.open()
            except OckamError as error:
                if str(error) != told:
                    told = str(error)
                    logger.info("%s: %s; trying on", self.endpoint, error)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                return
