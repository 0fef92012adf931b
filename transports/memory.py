"""Links within one process, for tests and examples: ``memory:NAME`` in a network given to both nodes.

A model may stand between the ends of a link and delay, lose, repeat or change what passes. Without one a
link is perfect. Time is the event loop's, so that a loop with a clock of its own makes hours short.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from ockamlite.errors import LinkBrokenError, LinkClosedError, OckamError, RemoteError, UnavailableError
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ockamlite.limits import Limits
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.wire.link import Link, LinkReceiver

    Model: TypeAlias = Callable[[bytes, float], Iterable[tuple[float, bytes]]]
    """Takes a frame and the time; when what arrives of it arrives."""

logger = logging.getLogger(__name__)

_MESSAGE_COST_BYTES: Final = 64
"""What a waiting message costs besides its bytes."""


class MemoryNetwork:
    """Where memory links find each other.

    Args:
        model: makes the model of one direction of a new link; None for perfect links.
    """

    def __init__(self, model: Callable[[], Model] | None = None) -> None:
        self.model = model
        """May be replaced at any time; links that are open keep theirs."""
        self._listeners: dict[str, MemoryListener] = {}
        self._links: set[MemoryLink] = set()
        self._numbers = itertools.count(1)

    def cut(self) -> None:
        """Break every link; new ones can be dialled."""
        for link in tuple(self._links):
            link.abort(LinkBrokenError("link broken: the network was cut"))

    def listen(self, listener: MemoryListener) -> None:
        """Let links be dialled to a name.

        Raises:
            UnavailableError: somebody listens there.
        """
        name = listener.endpoint.details
        if name in self._listeners:
            text = f"cannot listen at {listener.endpoint}: somebody does"
            raise UnavailableError(text, hint="choose another name")
        self._listeners[name] = listener

    def leave(self, listener: MemoryListener) -> None:
        """The opposite; may be called twice."""
        if self._listeners.get(listener.endpoint.details) is listener:
            del self._listeners[listener.endpoint.details]

    def join(self, endpoint: Endpoint, limits: Limits) -> MemoryLink:
        """Dial.

        Raises:
            UnavailableError: nobody listens there.
        """
        listener = self._listeners.get(endpoint.details)
        if listener is None:
            raise UnavailableError(f"{endpoint}: nobody listens there")
        here = MemoryLink(str(endpoint), endpoint.details, limits, self._links, self._way())
        name = f"{endpoint.details}/{next(self._numbers)}"
        there = MemoryLink(str(listener.endpoint), name, listener.limits, self._links, self._way())
        here.peer, there.peer = there, here
        listener.accept(there)
        return here

    def _way(self) -> Model | None:
        return self.model() if self.model is not None else None


class MemoryTransport:
    """Makes memory links; see :class:`ockamlite.wire.link.Transport`.

    Args:
        limits: how much may wait in a link.
        network: where to listen and dial; one of its own if absent.
    """

    kind: ClassVar[str] = "memory"
    options: ClassVar[Collection[str]] = ()

    def __init__(self, limits: Limits, network: MemoryNetwork | None = None) -> None:
        self._limits = limits
        self.network = network if network is not None else MemoryNetwork()

    async def connect(self, endpoint: Endpoint) -> Link:
        """Dial ``memory:NAME``."""
        await asyncio.sleep(0)  # dialling takes time on every link: callers must be ready for that
        return self.network.join(endpoint, self._limits)

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> MemoryListener:
        """Accept links at ``memory:NAME``."""
        listener = MemoryListener(endpoint, self._limits, self.network, accept)
        self.network.listen(listener)
        return listener


class MemoryListener:
    """A name at which links are accepted."""

    def __init__(
        self, endpoint: Endpoint, limits: Limits, network: MemoryNetwork, accept: Callable[[Link], None]
    ) -> None:
        self.endpoint = endpoint
        self.limits = limits
        self.accept = accept
        self._network = network

    async def close(self) -> None:
        """Free the name; open links stay."""
        self._network.leave(self)


class MemoryLink:
    """One end of a link."""

    peer: MemoryLink

    def __init__(
        self, endpoint: str, remote: str, limits: Limits, links: set[MemoryLink], model: Model | None
    ) -> None:
        self.endpoint = endpoint
        self.remote = remote
        self._limits = limits
        self._links = links
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(self._loop)
        self._receiver: LinkReceiver | None = None
        self._arrived: deque[bytes] = deque()
        self._held = False
        self._under_way = 0
        """Bytes sent that the other end has not taken."""
        self._last_at = 0.0
        """When the last of what was sent arrives."""
        self._peer_left = False
        self._ended = False
        self._error: OckamError | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._handing_on = False
        links.add(self)

    # -- the core's side ------------------------------------------------------------------------

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to hand on what arrives."""
        if self._ended:
            self._loop.call_soon(receiver.link_closed, self._error or LinkClosedError("closed at once"))
            return
        self._receiver = receiver
        self._soon()

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        """Send one message."""
        if self._ended:
            return None
        frame = b"".join((head, payload))
        if len(frame) > self._limits.message_bytes:
            logger.warning("%s: message of %d bytes is too long and not sent", self.endpoint, len(frame))
            return None
        now = self._loop.time()
        arrivals = ((now, frame),) if self._model is None else self._model(frame, now)
        for at, arriving in arrivals:
            self._under_way += len(arriving) + _MESSAGE_COST_BYTES
            if self._model is None:
                self.peer.arrive(arriving)
            else:
                self._last_at = max(self._last_at, at)
                self._loop.call_at(at, self.peer.arrive, arriving)
        if self._under_way > self._limits.link_buffer_bytes and not self._gate.is_shut:
            self._gate.shut()
            self._watch()
        return self._gate if self._gate.is_shut else None

    def close(self) -> None:
        """Close; what is under way arrives."""
        if not self._ended:
            self._end(None)
            self._loop.call_at(max(self._last_at, self._loop.time()), self.peer.left)

    def abort(self, error: OckamError) -> None:
        """Close at once; what is under way is lost."""
        if not self._ended:
            self._end(error)
            broken = isinstance(error, LinkBrokenError)
            self.peer.lost(error if broken else LinkClosedError("closed by the peer"))

    # -- the other end's side -------------------------------------------------------------------

    def arrive(self, frame: bytes) -> None:
        """A frame has come."""
        if not self._ended:
            self._arrived.append(frame)
            self._soon()

    def left(self) -> None:
        """The other end has closed; what came before is handed on first."""
        self._peer_left = True
        self._soon()

    def lost(self, error: OckamError) -> None:
        """The link has broken."""
        self._end(error)

    def taken(self, size: int) -> None:
        """The other end has taken a frame."""
        self._under_way -= size + _MESSAGE_COST_BYTES
        if self._stall is not None:
            self._watch()
        if self._gate.is_shut and self._under_way <= self._limits.link_buffer_bytes // 4:
            self._no_watch()
            self._gate.open()

    # -- inside ---------------------------------------------------------------------------------

    def _soon(self) -> None:
        if not self._handing_on and not self._held:
            self._handing_on = True
            self._loop.call_soon(self._hand_on)

    def _hand_on(self) -> None:
        self._handing_on = False
        while self._receiver is not None and self._arrived and not self._held:
            frame = self._arrived.popleft()
            self.peer.taken(len(frame))
            try:
                gate = self._receiver.frame_received(memoryview(frame))
            except RemoteError as error:
                self.abort(error)
                return
            if gate is not None and not self._ended:
                self._held = True
                gate.when_open(self._go_on)
        if self._peer_left and not self._arrived and self._receiver is not None:
            self._end(LinkClosedError("closed by the peer"))

    def _go_on(self) -> None:
        self._held = False
        self._hand_on()

    def _watch(self) -> None:
        self._no_watch()
        self._stall = self._loop.call_later(self._limits.link_stall_s, self._stalled)

    def _no_watch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _stalled(self) -> None:
        self.abort(LinkBrokenError(f"the peer took nothing for {self._limits.link_stall_s:.0f} s"))

    def _end(self, error: OckamError | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._error = error
        self._links.discard(self)
        self._no_watch()
        self._arrived.clear()
        self._gate.open()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._loop.call_soon(receiver.link_closed, error)
