"""One end of a reliable link: frames in, whole messages out; messages in, frames out. No I/O, no clock.

The shell calls :meth:`ReliableLink.frames_to_send` after every other call, as often as the line takes
more, and :meth:`ReliableLink.on_timer` when :meth:`ReliableLink.next_timer` says. Both ends are equal:
either may speak first, both may, and either may begin anew at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from ockamlite.errors import DecodeError, LocalError, ProtocolError
from ockamlite.limits import LIMITS
from ockamlite.wire.reliable import frames
from ockamlite.wire.reliable.compression import HeadWriter, onward_route, split_head
from ockamlite.wire.reliable.events import (
    LinkDown,
    LinkUp,
    MessageReceived,
    Parameters,
    PeerRestarted,
    VersionMismatch,
)
from ockamlite.wire.reliable.frames import ACK, BYE, DATA, HELLO_ACK, LEAST_BYTES, PING, PONG
from ockamlite.wire.reliable.profile import Profile
from ockamlite.wire.reliable.receiving import Reassembly, ReceiveWindow
from ockamlite.wire.reliable.scheduler import FairQueue
from ockamlite.wire.reliable.sending import SendWindow, Sent
from ockamlite.wire.reliable.sessions import Heard, Sessions

if TYPE_CHECKING:
    from ockamlite.limits import Limits
    from ockamlite.wire.reliable.events import Event

__all__ = [
    "LinkDown",
    "LinkUp",
    "MessageReceived",
    "Parameters",
    "PeerRestarted",
    "Profile",
    "ReliableLink",
    "VersionMismatch",
]

_BYES: Final = 2
"""A BYE is not acknowledged; without it the peer would wait for its time-out."""


class ReliableLink:
    """One end of a link.

    Args:
        profile: what is known of the line under it.
        session: 32 random bits, never used before.
        now: seconds, as in all other calls.
        limits: bounds on what is kept.
    """

    def __init__(self, profile: Profile, *, session: int, now: float, limits: Limits = LIMITS) -> None:
        self._profile = profile
        self._limits = limits
        self._ours = Parameters(
            profile.payload_accept,
            profile.window,
            1 << (min(limits.message_bytes, limits.reliable_message_bytes).bit_length() - 1),
        )
        self._payload_limit = profile.payload_max
        self._sessions = Sessions(profile, session, self._ours, limits.reliable_sessions)
        self._up = False
        self._down = False
        self._closing_at: float | None = None
        self._last_words: list[bytes] = []
        self._waiting_since = now
        """When something began to wait that waits still, if anything does."""
        self._queue = FairQueue(self._ours.message_bytes)
        self._begin(now)

    def _begin(self, now: float) -> None:
        """Make the state that belongs to a pair of sessions."""
        ours, peer, agreed = self._sessions.ours, self._sessions.peer, self._sessions.agreed
        self._send_window = SendWindow(self._profile)
        self._send_window.limit(min(self._payload_limit, agreed.payload_bytes), agreed.window)
        self._receive_window = ReceiveWindow(self._profile, agreed.window)
        self._writer = HeadWriter()
        self._reassembly = Reassembly(agreed.message_bytes)
        self._seed_out = frames.session_seed(ours, peer)
        self._seed_in = frames.session_seed(peer, ours)
        # Only one of two idle ends asks for a sign of life: the other hears the question in time.
        self._ping_after = self._profile.ping_after_s * (1 if ours > peer else 1.1)
        self._heard_at = self._send_window.taken_at = now
        self._pinged_at = now
        self._ping_due = False
        self._pong_due = False
        self._damage_due = False

    # -- what the shell may ask --------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """True while both ends know each other."""
        return self._up

    @property
    def is_closed(self) -> bool:
        """True once the link has ended, and everything there was to say was handed out."""
        return self._down and not self._last_words

    @property
    def hears_itself(self) -> bool:
        """True once a HELLO of our own came back: the line is looped, or echoes."""
        return self._sessions.hears_itself

    @property
    def queued_bytes(self) -> int:
        """Bytes of messages not yet sent for the first time."""
        return self._queue.waiting_bytes

    def flow_bytes(self, head: bytes) -> int:
        """The same for the flow of one message only: who sends little need not wait for who sends much."""
        return self._queue.flow_bytes(onward_route(head))

    # -- messages out ------------------------------------------------------------------------------

    def send(self, head: bytes, payload: bytes | bytearray | memoryview, now: float) -> int:
        """Queue the routing message ``head + payload``; before the link is up as well.

        Args:
            head: everything in front of the payload, its CBOR head included. Messages of one onward
                route are a flow, and arrive in order; others may pass them.
            payload: is copied.
            now: the time.

        Returns:
            Bytes of its flow that wait, this message included. Nothing happens after the link ended.

        Raises:
            LocalError: too long for the link, or its queue is full.
        """
        if self._down or self._closing_at is not None:
            return 0
        size = len(head) + len(payload)
        most = min(self._limits.message_bytes, self._sessions.agreed.message_bytes)
        if size > most:
            raise LocalError(f"message of {size} bytes, this link takes {most}")
        if self._queue.waiting_bytes + size > self._limits.reliable_queue_bytes:
            raise LocalError(f"{self._queue.waiting_bytes} bytes wait for the link already")
        if not self._has_waiting:
            self._waiting_since = now
        routes = split_head(head, len(payload))
        rest = bytes(payload) if routes is not None else head + bytes(payload)
        return self._queue.push(onward_route(head), routes, rest)

    def close(self, now: float) -> None:
        """Send what waits, for a short while, then a BYE; may be called twice."""
        if self._closing_at is None:
            self._closing_at = now + self._profile.linger_s if self._up else now

    def set_payload_limit(self, payload_bytes: int) -> None:
        """Let frames grow up to ``payload_bytes``, as when the MTU of a radio link was raised."""
        self._payload_limit = payload_bytes
        self._send_window.limit(
            min(payload_bytes, self._sessions.agreed.payload_bytes), self._sessions.agreed.window
        )
        if self._profile.payload_min == self._profile.payload_max:
            self._send_window.payload_bytes = self._send_window.payload_limit

    def hold(self) -> None:
        """Hand up nothing more for now: the window fills, and the sender waits. Nothing is lost."""
        self._receive_window.is_held = True

    def release(self, now: float) -> list[Event]:
        """Go on; returns what has come meanwhile."""
        window = self._receive_window
        if not window.is_held:
            return []
        window.is_held = False
        window.ack_now = True
        events: list[Event] = []
        self._hand_up(events)
        return events

    # -- frames in ---------------------------------------------------------------------------------

    def receive(self, frame: bytes, now: float) -> list[Event]:
        """Take one frame, as the framing below cut it; what is not a frame of this session is ignored."""
        if self._down or len(frame) < LEAST_BYTES:
            return []
        octet = frame[0]
        kind = octet >> 5
        if kind <= HELLO_ACK:
            return self._receive_hello(frame, now) if kind else []
        sending, receiving = self._send_window, self._receive_window
        ack = frames.whole_ack(frame[1], sending.next)
        seq = frames.whole_seq(frame[2], receiving.next) if kind == DATA else 0
        if (
            not self._sessions.peer
            or ack < 0
            or seq < 0
            or not frames.is_intact(frame, self._seed_in, seq, ack)
        ):
            if not self._up:
                self._sessions.stranger()
            return []
        events: list[Event] = []
        if not self._up:
            self._come_up(now, events)
        self._heard_at = now
        if kind == DATA:
            if ack > sending.base:
                sending.acknowledge(ack, 0, now)
            payload = frame[3:-2]
            if payload and receiving.receive(seq, octet, payload, now):
                self._hand_up(events)
            return events
        received = int.from_bytes(frame[2:-2][:4], "little")
        sending.acknowledge(ack, received, now)
        if kind == ACK:
            if octet & frames.DAMAGED and not self._queue:
                sending.hurry(now)
        elif kind == PING:
            self._pong_due = True
        elif kind == PONG:
            sending.tries = 0
        elif kind == BYE:
            self._fail("closed by the other side", events, by_peer=True)
        return events

    def bad_frame(self, now: float) -> None:
        """Note that the framing saw a damaged frame: the peer is told at once."""
        if self._up and not self._down:
            self._damage_due = True
            self._receive_window.ack_now = True

    def _hand_up(self, events: list[Event]) -> None:
        window, add = self._receive_window, self._reassembly.add
        try:
            while (frame := window.take()) is not None:
                message = add(*frame)
                if message is not None:
                    events.append(MessageReceived(message))
        except (DecodeError, ProtocolError) as error:
            self._fail(f"the peer broke the rules of the link: {error}", events)

    # -- sessions ----------------------------------------------------------------------------------

    def _receive_hello(self, frame: bytes, now: float) -> list[Event]:
        heard = self._sessions.receive(frame, now, is_up=self._up)
        events: list[Event] = []
        match heard:
            case None:
                pass
            case VersionMismatch():
                events.append(heard)
            case Heard(is_other, knows_us):
                if is_other:
                    if self._up:
                        # Whom the messages were meant for is gone.
                        self._up = False
                        self._queue = FairQueue(self._ours.message_bytes)
                        events.append(PeerRestarted())
                    self._begin(now)
                    self._queue.budget_bytes = self._sessions.agreed.message_bytes
                if knows_us and not self._up:
                    self._come_up(now, events)
                    self._receive_window.ack_now = True  # the first frame that proves us to the peer
            case _:
                assert_never(heard)
        return events

    def _come_up(self, now: float, events: list[Event]) -> None:
        self._up = True
        self._sessions.settled()
        self._heard_at = self._send_window.taken_at = now
        events.append(LinkUp(frames.VERSION, self._sessions.peer, self._sessions.agreed))

    def _fail(self, reason: str, events: list[Event], *, by_peer: bool = False) -> None:
        if self._sessions.peer and not by_peer:
            # It may well hear us: it is told, and need not find out by our silence.
            bye = frames.encode_control(BYE << 5, self._receive_window.next, self._seed_out)
            self._last_words = [bye] * _BYES
        self._up = False
        self._down = True
        self._queue = FairQueue(self._ours.message_bytes)
        events.append(LinkDown(reason, by_peer))

    # -- frames out --------------------------------------------------------------------------------

    def frames_to_send(self, now: float, budget_bytes: int) -> list[bytes]:
        """Frames that may go out now, control first.

        Args:
            now: the time.
            budget_bytes: how much the line takes; new data goes out only if a whole frame fits. Only the
                last word of a link that ends does not mind.
        """
        if self._down:
            return self._take_last_words()
        out: list[bytes] = []
        hello = self._sessions.frame_to_send(now, budget_bytes, is_up=self._up)
        if hello is not None:
            out.append(hello)
            budget_bytes -= len(hello)
        sending, receiving = self._send_window, self._receive_window
        if self._up:
            blocked = not sending.lost and not (self._queue and sending.is_open)
            budget_bytes = self._put_control(now, budget_bytes, out, must_ack=blocked)
            while sending.lost or (self._queue and sending.is_open):
                if sending.lost:
                    sent = sending.lost[0]
                    size = len(sent.payload) + frames.DATA_OVERHEAD_BYTES
                    if size > budget_bytes:
                        break
                    sending.lost.popleft()
                else:
                    if sending.payload_bytes + frames.DATA_OVERHEAD_BYTES > budget_bytes:
                        break
                    fragment = self._queue.take(sending.payload_bytes, self._writer)
                    if fragment is None:
                        break
                    sent = sending.new(*fragment)
                    size = len(sent.payload) + frames.DATA_OVERHEAD_BYTES
                budget_bytes -= size
                out.append(self._data(sent, now))
            if receiving.ack_now and budget_bytes >= LEAST_BYTES + 4:
                self._put_control(now, budget_bytes, out, must_ack=True)
        if self._closing_at is not None and (
            now >= self._closing_at or (sending.is_empty and not self._queue and not sending.lost)
        ):
            self._fail("closed here", [])
            out += self._take_last_words()
        return out

    def _take_last_words(self) -> list[bytes]:
        words, self._last_words = self._last_words, []
        return words

    def _data(self, sent: Sent, now: float) -> bytes:
        receiving = self._receive_window
        frame = frames.encode_data(sent.octet, receiving.next, sent.seq, sent.payload, self._seed_out)
        self._send_window.transmitted(sent, now)
        if not receiving.has_gap:
            receiving.acknowledged()
        return frame

    def _put_control(self, now: float, budget_bytes: int, out: list[bytes], *, must_ack: bool) -> int:
        receiving = self._receive_window
        if self._pong_due or (receiving.ack_now and (must_ack or receiving.has_gap or self._damage_due)):
            octet = PONG << 5 if self._pong_due else ACK << 5 | (frames.DAMAGED if self._damage_due else 0)
            frame = frames.encode_control(octet, receiving.next, self._seed_out, receiving.received)
            if len(frame) > budget_bytes:
                return budget_bytes
            out.append(frame)
            budget_bytes -= len(frame)
            if not self._pong_due:
                self._damage_due = False
            self._pong_due = False
            receiving.acknowledged()
        if self._ping_due and budget_bytes >= LEAST_BYTES:
            out.append(frames.encode_control(PING << 5, receiving.next, self._seed_out))
            budget_bytes -= LEAST_BYTES
            self._ping_due = False
            self._pinged_at = now
        return budget_bytes

    # -- time --------------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When to call :meth:`on_timer`; None: not before something else happens."""
        if self._down:
            return None
        times = [self._sessions.due_at, self._closing_at]
        if self._up:
            times += (
                self._receive_window.ack_at,
                self._probe_at,
                self._stalled_at,
                self._heard_at + self._profile.down_after_s,
                self._ping_at,
            )
        return min((time for time in times if time is not None), default=None)

    @property
    def _has_waiting(self) -> bool:
        return bool(self._queue or self._send_window.lost)

    @property
    def _stalled_at(self) -> float | None:
        """When a peer that takes nothing, or lets us send nothing, is given up."""
        if not self._has_waiting:
            return None
        return max(self._waiting_since, self._send_window.taken_at) + self._limits.link_stall_s

    @property
    def _ping_at(self) -> float | None:
        if self._ping_due:
            return None
        return max(self._heard_at + self._ping_after, self._pinged_at + self._profile.ping_again_s)

    @property
    def _probe_at(self) -> float | None:
        sending = self._send_window
        if sending.is_open or sending.lost or not self._queue or not sending.all_arrived:
            return sending.probe_at
        # The peer holds everything we sent and takes no more: ask, in case its go-ahead was lost.
        return None if self._ping_due else sending.since + sending.patience_s

    def on_timer(self, now: float) -> list[Event]:
        """Do what is due."""
        events: list[Event] = []
        if self._down:
            return events
        self._sessions.on_timer(now)
        if not self._up:
            return events
        profile, sending, receiving = self._profile, self._send_window, self._receive_window
        if self._heard_at + profile.down_after_s <= now:
            self._fail(f"nothing heard for {profile.down_after_s:.0f} s", events)
            return events
        stalled_at = self._stalled_at
        if stalled_at is not None and stalled_at <= now:
            self._fail(f"the peer took nothing for {self._limits.link_stall_s:.0f} s", events)
            return events
        if receiving.ack_at is not None and receiving.ack_at <= now:
            receiving.ack_at = None
            receiving.ack_now = True
        probe_at = self._probe_at
        if probe_at is not None and probe_at <= now:
            if sending.is_hopeless(now):
                self._fail("what was sent is not acknowledged", events)
                return events
            # From the second time on a short frame as well: noise that spares no long one spares that.
            self._ping_due |= sending.tries > 0
            if sending.probe_at is None:
                self._ping_due = True
                sending.asked(now)
            else:
                sending.probe(now)
        ping_at = self._ping_at
        if ping_at is not None and ping_at <= now:
            self._ping_due = True
        return events
