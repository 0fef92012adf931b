"""Connections of applications within one process, where there are no sockets: in made-up time.

What serves and dials ``127.0.0.1`` by asyncio, and the portals, work unchanged: bytes arrive one turn of the
loop after they were written, behind each other, and wait at their sender while nobody reads them. There is
no kernel between the ends, so nothing depends on how it is timed.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from boards.emulation.stream import Stream, StreamSocket, joined
from ockamlite.errors import UnavailableError
from ockamlite.portals import inlet, outlet

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from ockamlite.routing.endpoint import HostPort

_FIRST_PORT: Final = 49_152
_HERE: Final = frozenset(("127.0.0.1", "localhost", "::1"))
_EVERYWHERE: Final = frozenset((None, "", "0.0.0.0", "::"))  # noqa: S104  (nothing is bound)


class Loopback:
    """Who listens at which port of one event loop."""

    def __init__(self) -> None:
        self._ports: dict[int, Callable[[], asyncio.BaseProtocol]] = {}
        self._next = _FIRST_PORT
        self._count = 0

    def serve(self, host: str | None, port: int, accepted: Callable[[], asyncio.BaseProtocol]) -> int:
        """Listen; the port.

        Raises:
            OSError: it is taken, or the host is not this one.
        """
        if host not in _HERE | _EVERYWHERE:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        if port in self._ports:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if not port:
            port = self._take_number()
        self._ports[port] = accepted
        return port

    def stop(self, port: int) -> None:
        """Listen no more; connections stay."""
        self._ports.pop(port, None)

    def is_served(self, host: str | None, port: int) -> bool:
        """True if somebody listens there."""
        return host in _HERE and port in self._ports

    def dial(self, port: int, protocol: asyncio.BaseProtocol) -> Stream:
        """Connect to a port that is served; both protocols are told."""
        ours, theirs = joined(("127.0.0.1", self._take_number()), ("127.0.0.1", port))
        theirs.begin(self._ports[port]())
        ours.begin(protocol)
        return ours

    def _take_number(self) -> int:
        while self._next in self._ports:
            self._next += 1
        self._next += 1
        return self._next - 1

    @contextmanager
    def carries_portals(self) -> Iterator[None]:
        """Let the clients and targets of portals be here meanwhile, and not behind sockets."""
        # An inlet and an outlet ask their own modules for these two.
        near: Any = inlet
        far: Any = outlet
        kept = near.Acceptor, far.Dial
        near.Acceptor = partial(_Acceptor, self)
        far.Dial = partial(_Dial, self)
        try:
            yield
        finally:
            near.Acceptor, far.Dial = kept


class LoopbackServer(asyncio.AbstractServer):
    """What ``create_server`` gives."""

    def __init__(self, loopback: Loopback, host: str | None, port: int, accepted: Callable[[], Any]) -> None:
        self._loopback = loopback
        self._port = loopback.serve(host, port, accepted)
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()

    @property
    def sockets(self) -> tuple[StreamSocket, ...]:
        """One stand-in, which knows the port."""
        return () if self._closed.done() else (StreamSocket(("127.0.0.1", self._port)),)

    def close(self) -> None:
        """Listen no more."""
        if not self._closed.done():
            self._loopback.stop(self._port)
            self._closed.set_result(None)

    async def wait_closed(self) -> None:
        """Wait for :meth:`close`."""
        await asyncio.shield(self._closed)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it lives in."""
        return self._loop

    def is_serving(self) -> bool:
        """True until it is closed."""
        return not self._closed.done()

    async def start_serving(self) -> None:
        """It does already."""

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        try:
            await self.wait_closed()
        finally:
            self.close()


class _Acceptor:
    """See :class:`ockamlite.portals.sockets.Acceptor`."""

    def __init__(self, loopback: Loopback, accepted: Callable[[], asyncio.BufferedProtocol]) -> None:
        self.port = 0
        self._loopback = loopback
        self._accepted = accepted

    async def listen(self, bind: HostPort, in_use: Callable[[int], str]) -> None:
        try:
            self.port = self._loopback.serve(bind.host, bind.port, self._accepted)
        except OSError as error:
            reason = f"port {bind.port} is in use" if error.errno == errno.EADDRINUSE else error.strerror
            raise UnavailableError(
                f"cannot listen at tcp:{bind}: {reason}", hint="choose another port, or port 0"
            ) from error

    def close(self) -> None:
        if self.port:
            self._loopback.stop(self.port)


class _Dial:
    """See :class:`ockamlite.portals.sockets.Dial`."""

    def __init__(
        self,
        loopback: Loopback,
        target: HostPort,
        protocol: asyncio.BufferedProtocol,
        timeout_s: float,
        failed: Callable[[str], None],
        spawn: Callable[[Coroutine[object, object, None], str], asyncio.Task[None]],
    ) -> None:
        self._loopback = loopback
        self._target = target
        self._protocol = protocol
        self._failed = failed
        self._turn = asyncio.get_running_loop().call_soon(self._dial)

    def start(self) -> None:
        """It has."""

    def cancel(self) -> None:
        self._turn.cancel()

    def _dial(self) -> None:
        if self._loopback.is_served(self._target.host, self._target.port):
            self._loopback.dial(self._target.port, self._protocol)
        else:
            self._failed("nobody serves it under the same virtual clock")
