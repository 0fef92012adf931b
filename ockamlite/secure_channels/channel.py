"""An open secure channel of a node: an encryptor and a decryptor, called directly by the router.

What is sent to the encryptor's address goes, sealed, along the route to the peer; what the decryptor
opens continues along its inner route, out of the channel's own flow. The channel ends with the link
(or channel) under it, when the peer closes it, or when the peer falls silent. Who sends through it waits
while more is under way than passes in a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ockamlite import bare
from ockamlite.errors import (
    AlreadyExistsError,
    DecodeError,
    LinkClosedError,
    LocalError,
    OckamError,
    RemoteError,
)
from ockamlite.links import HeldFlow
from ockamlite.routing.codec import RouteMemory
from ockamlite.routing.message import Message
from ockamlite.routing.route import EMPTY_ROUTE, Route
from ockamlite.routing.tally import Tally
from ockamlite.secure_channels.message import (
    NO_PADDING,
    Close,
    Refresh,
    application_prefix,
    decode_application_head,
    decode_message,
    encode_message,
    padding_for,
)
from ockamlite.secure_channels.pace import Pace
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.identities.peer import PeerIdentity
    from ockamlite.limits import Limits
    from ockamlite.routing.address import Address
    from ockamlite.routing.message import Flow
    from ockamlite.routing.router import Router
    from ockamlite.secure_channels.nonces import Opener, Sealer

logger = logging.getLogger(__name__)

PROBE_S: Final = 7.0
"""Between looks at a silent channel: three of them, and it is noticed within 30 s."""
_MISSES: Final = 3
_ECHO: Final = Route.of("echo")
_PROBE: Final = "alive? "
"""What the peer is asked; a number follows, by which its answer is known."""
_FIRST_ANSWER_S: Final = 1.5
"""How long senders wait for a peer that has never answered, and may not offer 'echo'."""
_ASK_AGAIN_S: Final = 3.0
"""Between questions while senders wait; they may get lost."""
_NO_ANSWER_S: Final = 30.0
"""How long senders wait for an answer that is late, of a peer that lives."""
_LEAST_PAUSE_S: Final = 0.05


class SecureChannel:
    """One end of an open channel. Made by connecting or by a listener, not directly."""

    def __init__(
        self,
        router: Router,
        limits: Limits,
        *,
        peer: PeerIdentity,
        sealer: Sealer,
        opener: Opener,
        remote_route: Route,
        decryptor: Address,
        parent: Flow | None = None,
        on_refresh: Callable[[SecureChannel, Refresh], None] | None = None,
    ) -> None:
        self._router = router
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._sealer = sealer
        self._opener = opener
        self._remote_route = remote_route
        self._decryptor = decryptor
        self._on_refresh = on_refresh
        self._on_closed: list[Callable[[SecureChannel], None]] = []
        self.pads = False
        """Hide the lengths of messages in buckets."""
        self.identity = peer
        """What the peer proved in the handshake."""
        self._under = router.flow_of(remote_route[0])
        self.flow = HeldFlow(
            f"channel with {peer.identifier}", parent=parent, peer=peer.identifier, under=self._under
        )
        self.address = router.add_random(self._encrypt, flow=self.flow)
        """The encryptor: what is sent here reaches the peer."""
        self.flow.address = self.address
        self._back = Route((self.address,))
        # From here on nothing keeps the handshake's keys.
        router.remove(decryptor)
        router.add(decryptor, self.decrypt)
        router.open(decryptor, (self._under,))
        self._probe_address: Address | None = None
        self._last_message3: Message | None = None
        self._prove_timer: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[str] = self._loop.create_future()
        """Done, with the reason, when the channel has ended."""
        self.confirmed: asyncio.Future[None] = self._loop.create_future()
        """Done once the peer has proved that it accepted us: something came that only it can seal.

        LinkClosedError if the channel ended before.
        """
        self._memory = RouteMemory()
        self._malformed = Tally()
        self._heard = False
        self._answers_probes = False
        self._trials = _MISSES
        self._silent_looks = 0
        self._idle_looks = 0
        self._pace = Pace()
        self._gate = Gate(self._loop)
        """Shut while too much is under way."""
        self._gate_timer: asyncio.TimerHandle | None = None
        self._paused_until = 0.0
        self._look_timer = self._loop.call_later(PROBE_S, self._look)
        try:
            if self._under is not None:
                self._under.watch(self)
        except AlreadyExistsError:
            self._loop.call_soon(self._end, "the link under it is gone")

    def __repr__(self) -> str:
        """The peer, for logs; no key."""
        return f"<SecureChannel with {self.peer}>"

    @property
    def peer(self) -> object:
        """The identifier of the peer."""
        return self.identity.identifier

    @property
    def route(self) -> Route:
        """The route to the node at the other end: this channel."""
        return self._back

    @property
    def idle_looks(self) -> int:
        """For how many looks, one each ``PROBE_S`` seconds, nothing has come."""
        return self._idle_looks

    def on_closed(self, callback: Callable[[SecureChannel], None]) -> None:
        """Call ``callback`` once when the channel has ended."""
        self._on_closed.append(callback)

    def close(self, reason: str = "closed here") -> None:
        """Tell the peer and end the channel; may be called twice."""
        if self.closed.done():
            return
        try:
            self._transmit(encode_message(Close()))
        except OckamError as error:
            logger.debug("%r: close not sent: %s", self, error)
        self._end(reason)

    def send_refresh(self, history: bytes, credentials: tuple[bytes, ...]) -> None:
        """Present our history and credentials anew.

        Raises:
            NotFoundError: the link under the channel is gone.
        """
        self._transmit(encode_message(Refresh(history, credentials)))

    def prove(self, message3: Message) -> None:
        """For the initiator: ask for a sign of life, and repeat message 3 while none comes."""
        self._last_message3 = message3
        self._probe()
        self._prove_timer = self._loop.call_later(1.5, self._prove_again, 3)

    def _prove_again(self, times: int) -> None:
        if self.confirmed.done() or self.closed.done():
            self._last_message3 = None
            return
        if not times or self._last_message3 is None:
            logger.info("%r: no answer yet; the peer may not trust us or may not offer 'echo'", self)
            return
        try:
            # If the first copy arrived, this one is an undecryptable message, which changes nothing.
            self._router.deliver(self._last_message3)
        except LocalError as error:
            logger.debug("%r: message 3 not repeated: %s", self, error)
        self._probe()
        self._prove_timer = self._loop.call_later(2.0, self._prove_again, times - 1)

    # -- the router's side ----------------------------------------------------------------------

    def _encrypt(self, message: Message) -> Gate | None:
        onward, back, payload, _ = message
        head = application_prefix(onward.rest, back, len(payload))
        padding = padding_for(len(head) + len(payload)) if self.pads else NO_PADDING
        sealed = self._sealer.seal(b"".join((head, payload, padding)))
        gate = self._router.deliver(Message(self._remote_route, EMPTY_ROUTE, sealed))
        pace = self._pace
        pace.sent_bytes += len(sealed)
        if pace.sent_bytes >= pace.look_at:
            return self._keep_pace(gate, len(sealed))
        return gate

    def _keep_pace(self, gate: Gate | None, size: int) -> Gate | None:
        """Ask how far things have come, and let who sends wait if that is not far."""
        pace = self._pace
        if pace.wants_question:
            self._probe()
        # What a link brings for us is taken: the answer we wait for may come by the same one.
        if self._router.reading or self.closed.done():
            return gate
        pause_s = pace.pause_s(size)
        if pause_s < _LEAST_PAUSE_S and not pace.is_full:
            return gate
        now = self._loop.time()
        self._paused_until = max(now, self._paused_until) + pause_s
        if not self._gate.is_shut:
            self._gate.shut()
            wait_s = _ASK_AGAIN_S if self._answers_probes else _FIRST_ANSWER_S
            self._look_at_gate_at(now + wait_s if pace.is_full else self._paused_until)
        return self._gate

    def _look_at_gate_at(self, at: float) -> None:
        if self._gate_timer is not None:
            self._gate_timer.cancel()
        self._gate_timer = self._loop.call_at(at, self._look_at_gate)

    def _look_at_gate(self) -> None:
        now, pace = self._loop.time(), self._pace
        if not pace.is_full:
            if now < self._paused_until:
                self._look_at_gate_at(self._paused_until)
            else:
                self._open_gate()
            return
        is_late = pace.is_due(now)
        waited_s = now - self._gate.shut_since
        # Who has answered and says nothing at all now may be dead: the looks will tell.
        lives = self._answers_probes and not self._idle_looks and waited_s >= _NO_ANSWER_S
        if is_late and (lives or not self._answers_probes):
            logger.info("%r: answers no questions; how much is under way is not known", self)
            pace.set_free()
            self._open_gate()
            return
        if is_late:
            self._probe()
        if not self.closed.done():
            self._look_at_gate_at(now + _ASK_AGAIN_S)

    def _open_gate(self) -> None:
        if self._gate_timer is not None:
            self._gate_timer.cancel()
            self._gate_timer = None
        self._gate.open()

    def decrypt(self, message: Message) -> Gate | None:
        """Open what came to the decryptor's address and send it on its inner way."""
        try:
            plaintext, gap, _ = self._opener.open(message.payload, self._loop.time())
        except RemoteError as error:
            # Forged, repeated or damaged: one answer for all of them, and nothing changes.
            logger.debug("%r: message not accepted: %s", self, error)
            return None
        self._heard = True
        if gap:
            self.flow.lost_messages()
        if not self.confirmed.done():
            self.confirmed.set_result(None)
        try:
            head = decode_application_head(plaintext, self._memory)
            if head is None:
                self._control(plaintext)
                return None
            onward, back, start, end = head
            payload = memoryview(plaintext)[start:end]
            gate = self._router.deliver(Message(onward, Route((self.address, *back)), payload, self.flow))
            # A full link of ours holds back what we say, not what the peer does.
            if gate is not None and gate.owner is None:
                self.flow.held_by = gate
            return gate  # noqa: TRY300  (an else would only move it)
        except RemoteError as error:
            if self._malformed.add():
                logger.info(
                    "%r: malformed message ignored: %s (%d so far)", self, error, self._malformed.count
                )
            return None

    def _control(self, plaintext: bytes) -> None:
        match decode_message(plaintext):
            case Close():
                self._end("closed by the peer")
            case Refresh() as refresh:
                if self._on_refresh is not None:
                    self._on_refresh(self, refresh)
            case _:
                raise AssertionError("application messages are handled before")

    def _transmit(self, plaintext: bytes) -> None:
        sealed = self._sealer.seal(plaintext)
        self._router.deliver(Message(self._remote_route, EMPTY_ROUTE, sealed))

    # -- life -----------------------------------------------------------------------------------

    def _probe(self) -> None:
        if self._probe_address is None:
            self._probe_address = self._router.add_random(self._probe_answered)
            self._router.open(self._probe_address, (self.flow,))
        body = bare.encode_str(f"{_PROBE}{self._pace.asked(self._loop.time())}")
        try:
            self._router.deliver(Message(self._back / _ECHO, Route((self._probe_address,)), body))
        except LocalError as error:
            self._end(f"the way to the peer is gone: {error}")

    def _probe_answered(self, message: Message) -> None:
        self._answers_probes = True
        self._silent_looks = 0
        try:
            number = int(bare.decode_str(bytes(message.payload)).removeprefix(_PROBE))
        except (DecodeError, ValueError):
            logger.debug("%r: an answer to no question of ours", self)
            return
        self._pace.answered(number, self._loop.time())
        if self._gate.is_shut and not self._pace.is_full:
            self._look_at_gate()

    def _look(self) -> None:
        """Look whether the peer is still there; ask it if it was silent."""
        if self.closed.done():
            return
        if self._heard or self.flow.is_held:
            # What we do not take, because a worker here is slow, says nothing about the peer; but it
            # must hear us. And a peer that talks by itself must be known to answer before it falls silent.
            if not self._heard or (not self._answers_probes and self._trials):
                self._trials -= self._heard
                self._probe()
            elif self._pace.is_unsure:
                self._probe()  # a way that has become slow shows by the answer
            self._heard = False
            self._silent_looks = self._idle_looks = 0
        else:
            self._idle_looks += 1
            # What was asked behind much else over a slow way cannot have been answered yet.
            self._silent_looks += self._answers_probes and self._pace.is_due(self._loop.time())
            if self._silent_looks >= _MISSES:
                self._end("the peer fell silent")
                return
            if self._idle_looks * PROBE_S > self._limits.channel_idle_s:
                self.close("idle for too long")
                return
            self._probe()
        if not self.closed.done():
            self._look_timer = self._loop.call_later(PROBE_S, self._look)

    def flow_lost_messages(self) -> None:
        """The flow under the channel has a gap; our own nonces will tell whether it concerns us."""

    def flow_closed(self, reason: str) -> None:
        """The link or channel under this one is gone."""
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(reason)
        if not self.confirmed.done():
            self.confirmed.set_exception(LinkClosedError(f"secure channel with {self.peer} ended: {reason}"))
            self.confirmed.exception()  # not everybody waits for it
        self._look_timer.cancel()
        self._open_gate()
        if self._prove_timer is not None:
            self._prove_timer.cancel()
        self._last_message3 = None
        if self._under is not None:
            self._under.watchers.discard(self)
        for address in (self.address, self._decryptor, self._probe_address):
            if address is not None:
                self._router.remove(address)
        self.flow.close(reason)
        logger.info("%r ended: %s", self, reason)
        for callback in self._on_closed:
            callback(self)
        self._on_closed.clear()
