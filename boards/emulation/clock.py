"""An event loop whose time jumps to the next timer whenever nothing is runnable: hours take milliseconds.

For emulated links only. What really takes time (sockets, terminals, threads, other processes) would be over
at once or never from its point of view: asking this loop for it is an error that says so. Applications that
serve and dial on this machine, and portals between them, have a loopback of its own instead of sockets.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
from typing import TYPE_CHECKING, NoReturn

from boards.emulation.loopback import Loopback, LoopbackServer
from ockamlite.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from contextvars import Context
    from typing import Any, TypeVar, TypeVarTuple, Unpack

    from boards.emulation.stream import Stream

    T = TypeVar("T")
    Ts = TypeVarTuple("Ts")


class StuckError(RuntimeError):
    """Everybody waits and no timer is set: nothing would ever happen again."""


class RealTimeError(UsageError):
    """Something was asked for that takes real time, where time is made up."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"no {what} under the virtual clock: real time does not pass there",
            hint="use memory, emulated lines or the emulated air, or what is served under the same clock; "
            "or run it in real time",
        )
        self.what = what


class _Selector(selectors.BaseSelector):
    """Looks at descriptors without waiting; where it should wait it moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: Callable[[], str] = lambda: "nobody"
        self._inner = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if ready:
            return ready
        if timeout is None:
            raise StuckError(f"everybody waits and no timer is set: {self.waiting()}")
        self.now += max(0.0, timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()


class _Timer(asyncio.TimerHandle):
    """A timer that goes off behind those of the same time that were set before it."""

    __slots__ = ("number",)

    number: int

    def __lt__(self, other: object) -> bool:
        if isinstance(other, _Timer):
            return (self.when(), self.number) < (other.when(), other.number)
        return NotImplemented


def _refused(what: str) -> Any:
    def refuse(self: object, *_: object, **__: object) -> NoReturn:
        raise RealTimeError(what)

    return refuse


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. Its time begins at 0; timers of the same time go off in the order they were set."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        self._virtual.waiting = self._waiting
        self._numbers = itertools.count()
        self._loopback = Loopback()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds since it began, of its own."""
        return self._virtual.now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See :meth:`asyncio.loop.call_at`, which promises no order."""
        # The base class makes its timers itself, so this does what it does.
        inner: Any = self
        inner._check_closed()  # noqa: SLF001
        timer: Any = _Timer(when, callback, args, self, context)
        timer.number = next(self._numbers)
        heapq.heappush(inner._scheduled, timer)  # noqa: SLF001
        timer._scheduled = True  # noqa: SLF001
        made: asyncio.TimerHandle = timer
        return made

    def run_forever(self) -> None:
        """See :meth:`asyncio.loop.run_forever`; meanwhile the ends of portals are on the loopback."""
        with self._loopback.carries_portals():
            super().run_forever()

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **options: Any,
    ) -> tuple[Stream, asyncio.BaseProtocol]:
        """Connect to what is served by this loop, without a socket.

        Raises:
            RealTimeError: this loop does not serve it.
        """
        if options.get("ssl") or not port or not self._loopback.is_served(host, port):
            raise RealTimeError("TCP connection")
        protocol = protocol_factory()
        return self._loopback.dial(port, protocol), protocol

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **options: Any,
    ) -> LoopbackServer:
        """Serve those who dial by this loop, without a socket.

        Raises:
            RealTimeError: with TLS, or a socket that is there already.
            OSError: the port is taken, or the host is another one.
        """
        if options.get("ssl") or options.get("sock"):
            raise RealTimeError("TCP server")
        return LoopbackServer(self._loopback, host, port or 0, protocol_factory)

    def _waiting(self) -> str:
        return ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self))) or "no task is left"

    create_unix_connection = _refused("Unix socket")
    create_unix_server = _refused("Unix socket")
    create_datagram_endpoint = _refused("UDP socket")
    connect_accepted_socket = _refused("socket")
    sock_accept = _refused("socket")
    sock_connect = _refused("socket")
    sock_recv = _refused("socket")
    sock_recv_into = _refused("socket")
    sock_recvfrom = _refused("socket")
    sock_recvfrom_into = _refused("socket")
    sock_sendall = _refused("socket")
    sock_sendto = _refused("socket")
    sock_sendfile = _refused("socket")
    getaddrinfo = _refused("name look-up")
    getnameinfo = _refused("name look-up")
    add_reader = _refused("socket or terminal")
    add_writer = _refused("socket or terminal")
    connect_read_pipe = _refused("pipe or terminal")
    connect_write_pipe = _refused("pipe or terminal")
    subprocess_exec = _refused("other process")
    subprocess_shell = _refused("other process")
    run_in_executor = _refused("thread")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, as :func:`asyncio.run` does in real time.

    Raises:
        StuckError: everybody waits and no timer is set; names the tasks.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
