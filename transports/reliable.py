"""The shell around a reliable link's engine: its timer, its pipe, and the links that the core sees.

A pipe carries frames, whole or damaged or not at all: a serial line with framing, or the values of a
characteristic. The engine makes of them messages in order. One engine lives as long as the pipe does; each
time the peer begins a new session a link ends and another one begins, because whatever lived in the
peer's node is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from ockamlite.errors import (
    LinkBrokenError,
    LinkClosedError,
    LocalError,
    OckamError,
    RemoteError,
)
from ockamlite.wire.gate import Gate
from ockamlite.wire.reliable.events import LinkDown, LinkUp, MessageReceived, PeerRestarted, VersionMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.limits import Limits
    from ockamlite.wire.link import LinkReceiver
    from ockamlite.wire.reliable.engine import ReliableLink
    from ockamlite.wire.reliable.events import Event

logger = logging.getLogger(__name__)

QUEUE_BYTES: Final = 4096
"""What may wait in an engine before senders wait: a third of a second at 115,200 Bd."""

_CLOSE_S: Final = 3.0
"""How long a pipe may take to close: longer than the engine takes to deliver what waits."""


class FramePipe(Protocol):
    """What carries frames for a shell. Tells it by :meth:`ReliableShell.pipe_ready` of new room."""

    def write_frame(self, frame: bytes) -> None:
        """Send a frame."""

    def writable_bytes(self) -> int:
        """Bytes of frames that may be written now. If it is less than wanted, ``pipe_ready`` follows."""

    def close(self) -> None:
        """Send what was written, then close; ``pipe_lost`` follows."""

    def abort(self) -> None:
        """Close at once; ``pipe_lost`` follows."""


class ReliableShell:
    """Runs an engine over a pipe.

    Args:
        engine: the state machine, fresh.
        pipe: what carries its frames.
        endpoint: our endpoint, as dialled or listened on.
        remote: the other end, as this end sees it.
        limits: bounds.
        accept: called with each link, not yet started, when its session begins.
        ended: called once when the pipe is closed, with what ended it; None if our side did.
        queue_bytes: what may wait in the engine before senders wait.
        once: close the pipe behind the first link.
    """

    def __init__(
        self,
        engine: ReliableLink,
        pipe: FramePipe,
        *,
        endpoint: str,
        remote: str,
        limits: Limits,
        accept: Callable[[ReliableSession], None],
        ended: Callable[[OckamError | None], None],
        queue_bytes: int = QUEUE_BYTES,
        once: bool = False,
    ) -> None:
        self.engine = engine
        self.endpoint = endpoint
        self.remote = remote
        self.limits = limits
        self.mismatch: VersionMismatch | None = None
        """The peer speaks, but another version of the protocol."""
        self.loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._accept = accept
        self._ended = ended
        self._queue_bytes = queue_bytes
        self._once = once
        self._most_bytes = limits.reliable_queue_bytes // 2
        self._session: ReliableSession | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._error: OckamError | None = None
        self._closing = False
        self._pipe_closed = False
        self._lost = False

    # -- the pipe's side ------------------------------------------------------------------------

    def start(self) -> None:
        """Send the first HELLO."""
        self._pump()

    def frame_received(self, frame: bytes) -> None:
        """A whole frame came."""
        if not self._lost:
            self._handle(self.engine.receive(frame, self.loop.time()))

    def bad_frame(self) -> None:
        """A damaged frame came."""
        if not self._lost:
            self.engine.bad_frame(self.loop.time())
            self._pump()

    def pipe_ready(self) -> None:
        """The pipe takes more."""
        if not self._lost:
            self._pump()

    def pipe_lost(self, error: OckamError | None) -> None:
        """The pipe is closed; ``error`` is None if nothing went wrong with it."""
        if self._lost:
            return
        self._lost = True
        for timer in (self._timer, self._deadline):
            if timer is not None:
                timer.cancel()
        # Once our side closes, it does not matter who is the first to let go of the pipe.
        error = self._error if self._closing else self._error or error or LinkBrokenError("the line ended")
        self._end_session(error)
        self._ended(error)

    # -- the links' side ------------------------------------------------------------------------

    @property
    def has_session(self) -> bool:
        """True while a link lives on the pipe."""
        return self._session is not None

    @property
    def has_room(self) -> bool:
        """True once those who waited may send again."""
        return self.engine.queued_bytes <= self._queue_bytes // 2

    def hold(self) -> None:
        """Let the peer wait: the core takes no more for now."""
        self.engine.hold()

    def release(self) -> None:
        """Go on."""
        if not self._lost:
            self._handle(self.engine.release(self.loop.time()))

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> bool:
        """Queue a message; true if its sender should wait before it sends more.

        Raises:
            LocalError: it is too long.
        """
        if self._error is not None:
            return True
        engine = self.engine
        waiting = engine.send(head, payload, self.loop.time())
        self._pump()
        # Who sends little goes on while another flow fills the link: the engine is fair to both.
        return engine.queued_bytes > self._most_bytes or (
            waiting > self._queue_bytes and engine.queued_bytes > self._queue_bytes
        )

    def close(self) -> None:
        """Deliver what waits and say goodbye, for a short while; then close the pipe."""
        if self._closing or self._lost:
            return
        self._closing = True
        self.engine.close(self.loop.time())
        # Goodbye needs a pipe that takes it.
        self._deadline = self.loop.call_later(_CLOSE_S, self._pipe.abort)
        self._pump()

    def abort(self, error: OckamError | None) -> None:
        """Close at once; ``error`` is None if our side wants it so."""
        if self._lost:
            return
        self._closing = True
        self._error = self._error or error
        self._pipe.abort()

    # -- inside ---------------------------------------------------------------------------------

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case MessageReceived(message):
                    if self._session is not None:
                        self._session.message_received(message)
                case LinkUp():
                    self._session = ReliableSession(self)
                    self._accept(self._session)
                case PeerRestarted():
                    self._end_session(LinkClosedError("the peer restarted"))
                    if self._once:
                        self.close()
                case LinkDown(reason, by_peer):
                    if not self._closing:
                        self._closing = True
                        self._error = self._error or (LinkClosedError if by_peer else LinkBrokenError)(reason)
                        self._deadline = self.loop.call_later(_CLOSE_S, self._pipe.abort)
                case VersionMismatch(theirs, ours):
                    self.mismatch = event
                    logger.warning(
                        "%s: the peer speaks version %d of the link, we speak %d", self.endpoint, theirs, ours
                    )
                case _:
                    assert_never(event)
        self._pump()

    def _pump(self) -> None:
        """Send what may go out now and set the timer."""
        if self._lost:
            return
        now = self.loop.time()
        self._write(now)
        session = self._session
        # Who waits for a link that has broken is told of its end, and sends nothing into it before.
        if session is not None and self.has_room and self._error is None:
            session.open_gate()
        if self.engine.is_closed and not self._pipe_closed:
            self._pipe_closed = True
            self._pipe.close()
            return
        at = self.engine.next_timer()
        if at == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.loop.call_at(at, self._on_timer) if at is not None else None

    def _write(self, now: float) -> None:
        room = self._pipe.writable_bytes()
        if room > 0 or self._closing:
            for frame in self.engine.frames_to_send(now, room):
                self._pipe.write_frame(frame)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = None
        self._handle(self.engine.on_timer(self.loop.time()))

    def _end_session(self, error: OckamError | None) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.ended(error)


class ReliableSession:
    """One session of a reliable link; see :class:`ockamlite.wire.link.Link`."""

    def __init__(self, shell: ReliableShell) -> None:
        self.endpoint = shell.endpoint
        self.remote = shell.remote
        self._shell: ReliableShell | None = shell
        self._loop = shell.loop
        self._gate = Gate(shell.loop)
        self._receiver: LinkReceiver | None = None
        self._waiting: deque[bytes] = deque()
        """Messages that came before the core took any, or in one frame with the one that made it wait."""
        self._held = False
        self._error: OckamError | None = None

    def start(self, receiver: LinkReceiver) -> None:
        """Hand on what came and what will come."""
        self._receiver = receiver
        self._loop.call_soon(self._go_on)

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        """Queue one message."""
        if self._shell is None:
            return None
        try:
            if self._shell.send(head, payload):
                self._gate.shut()
                return self._gate
        except LocalError as error:
            # The link stays: others may be able to make us forward what grew too long on its way.
            logger.warning("%s: not sent: %s", self.endpoint, error)
        return None

    def close(self) -> None:
        """Deliver what waits, for a short while, then close."""
        if self._shell is not None:
            self._shell.close()

    def abort(self, error: OckamError) -> None:
        """Close at once."""
        if self._shell is not None:
            self._shell.abort(error)

    # -- the shell's side -----------------------------------------------------------------------

    def message_received(self, message: bytes) -> None:
        """Hand a message to the core, or keep it while the core takes none."""
        if self._held or self._receiver is None:
            self._waiting.append(message)
            return
        self._hand_on(message)

    def open_gate(self) -> None:
        """Let senders go on."""
        if self._gate.is_shut:
            self._gate.open()

    def ended(self, error: OckamError | None) -> None:
        """The session is over. What the core would not take until now is dropped, as on a socket."""
        self._shell = None
        self._error = error
        self._gate.open()
        if self._held:
            self._waiting.clear()
        if not self._waiting:
            self._tell_end()

    def _hand_on(self, message: bytes) -> None:
        assert self._receiver is not None  # noqa: S101  (checked by both callers)
        try:
            gate = self._receiver.frame_received(memoryview(message))
        except RemoteError as error:
            self.abort(error)
            return
        if gate is not None:
            self._held = True
            if self._shell is not None:
                self._shell.hold()
            gate.when_open(self._go_on)

    def _go_on(self) -> None:
        self._held = False
        while self._waiting and not self._held and self._receiver is not None:
            message = self._waiting.popleft()
            self._hand_on(message)
        if self._held or self._waiting:
            return
        if self._shell is not None:
            self._shell.release()
        else:
            self._tell_end()

    def _tell_end(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.link_closed(self._error)
