"""How datagrams go to one remote address: which dialect, how large, how fast, and how many at all.

No I/O, no clock: the caller takes one datagram after the other while there are any, and comes back when a
timer is due. Towards other nodes of Ockam datagrams stay small and leave at a fixed rate. Two ockamlite nodes
ask each other (see :mod:`ockamlite.wire.heartbeats`) how large datagrams arrive and how much the other holds.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from ockamlite.errors import LinkBrokenError
from ockamlite.wire.datagrams import OVERHEAD_BYTES, ROUTING_NUMBERS, SMALL_DATAGRAM_BYTES, Dialect, split
from ockamlite.wire.heartbeats import LEAST_BYTES, NO_PROOF, Heartbeat, Kind, answer_to, encode_heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ockamlite.errors import OckamError
    from ockamlite.limits import Limits

PROBED_BYTES: Final = (1232, 1452, 8952, 16_384)
"""Datagrams tried: IPv6's least path, Ethernet, jumbo frames, loopback; each less IPv6's and UDP's heads."""
KEEPALIVE_S: Final = 20.0
"""Between two heartbeats of an idle link: 2 x 90 bytes, below what routers keep UDP mappings for."""
SILENCE_S: Final = 65.0
"""After which a node that answered heartbeats is taken for gone: three unanswered, and some."""

_RATE_BYTES_PER_S: Final = 2_000_000
_BURST_BYTES: Final = 32 * 1024
"""A usual receive buffer holds a hundred and sixty small datagrams, bookkeeping included: half of that."""
_LEAST_WINDOW_BYTES: Final = 20 * 1024
"""One datagram of the largest size always goes."""
_HELLO_S: Final = (0.2, 1.0, 3.0)
"""Pauses between the first questions; who answers none of them is no ockamlite node."""
_FIRST_ROUND_S: Final = 0.1
_LEAST_ROUND_S: Final = 0.05
_LONGEST_ROUND_S: Final = 2.0
_CHECK_SIZE_S: Final = 1.0
_LATER_S: Final = 0.1
_TICK_S: Final = 0.001
_MARKS: Final = 32
_GUESSABLE_BYTES: Final = 12
"""Shorter addresses are names; the random ones of a node have 60 bits in 12 bytes, or more."""
_NEVER: Final = float("inf")


class Advance:
    """What a socket may send to unproven addresses beyond what came from them, over all of them.

    The first message of a Rust peer's handshake takes 91 bytes, the answer 486, and the peer says nothing
    more before it has all of that. Whoever makes us answer somebody else's address gains no more than this.
    """

    def __init__(self, bytes_per_s: float, now: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._left = bytes_per_s
        self._at = now

    def draw(self, size: int, now: float) -> bool:
        """Take ``size`` bytes, if they are there."""
        self._left = min(self._bytes_per_s, self._left + (now - self._at) * self._bytes_per_s)
        self._at = now
        if size > self._left:
            return False
        self._left -= size
        return True


class _Mark:
    """A question under way: what had been sent before it, and how large it was."""

    __slots__ = ("at", "sent", "size")

    def __init__(self, sent: int, at: float, size: int) -> None:
        self.sent = sent
        self.at = at
        self.size = size


class DatagramPath:
    """The way to one remote address.

    Args:
        limits: how long silence and standstill last.
        dialect: of what we send until the remote has sent something.
        number: the first routing number, a random one.
        token: makes 8 bytes that nobody can guess.
        now: the time; the same clock everywhere.
        dialled: True if our side chose the address, so that nothing about it needs proof.
        offer: what the remote shall show as proof; 8 bytes that only we can make.
        advance: what all unproven addresses share beyond their due.
        largest: the longest datagram worth trying.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        dialect: Dialect,
        number: int,
        token: Callable[[], bytes],
        now: float,
        dialled: bool,
        offer: bytes,
        advance: Advance,
        largest: int = PROBED_BYTES[-1],
    ) -> None:
        self.dialect = dialect
        self.is_proven = dialled
        """True once it is known that what we send there is received there."""
        self.speaks_heartbeats = False
        """True once it has answered, or asked, as an ockamlite node does."""
        self.datagram_bytes = SMALL_DATAGRAM_BYTES
        self.queued_bytes = 0
        """Messages waiting, what is left of the current one included."""
        self.proof = NO_PROOF
        """What the remote wants to be shown."""
        self._limits = limits
        self._dialled = dialled
        self._offer = offer
        self._advance = advance
        self._advanced_bytes = 0
        self._largest = largest
        self._number = number
        self._token = token
        self._messages: deque[bytes] = deque()
        self._current: Iterator[bytes] | None = None
        self._current_bytes = 0
        self._ready: bytes | None = None
        self._control: deque[bytes] = deque()
        self._received_bytes = 0
        self._sent_bytes = 0
        self._heard_at = now
        self._tokens = float(_BURST_BYTES)
        self._tokens_at = now
        self._window = 0
        """Bytes that may be under way; 0 while the remote has named none."""
        self._sent_data = 0
        self._confirmed_data = 0
        self._marked_data = 0
        self._marks: OrderedDict[bytes, _Mark] = OrderedDict()
        self._asked_at = -_NEVER
        self._asks = 0
        self._round_s = _FIRST_ROUND_S
        self._unanswered = 0
        self._blocked_since = _NEVER
        self._pace_at = _NEVER
        self._size_asked_at = now
        self._told: set[bytes] = set()
        self._used: set[bytes] = set()
        """Addresses it used before we told them: names anyone may know, which prove nothing."""

    # -- what we send ---------------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        """Queue a routing message."""
        self._messages.append(message)
        self.queued_bytes += len(message)

    def hello(self, now: float) -> None:
        """Ask whether the remote is an ockamlite node; padded, so that it may answer."""
        self._asks += 1
        self._ask(now, SMALL_DATAGRAM_BYTES if self._dialled else 0)

    def is_genuine(self, heartbeat: Heartbeat) -> bool:
        """True if it was made by somebody who receives what we send to this remote."""
        return heartbeat.proof == self._offer

    def bye(self) -> bytes | None:
        """The datagram that ends the link, where the remote understands one."""
        if self.proof == NO_PROOF:
            return None
        return self._lone(encode_heartbeat(Heartbeat(Kind.BYE, self.proof, self.proof)))

    def next_datagram(self, now: float) -> bytes | None:
        """The next datagram that may leave now; it counts as sent."""
        if self._control:
            if not self._may_send(len(self._control[0]), now):
                return None
            return self._count(self._control.popleft())
        if self._ready is None:
            self._ready = self._cut()
        datagram = self._ready
        if datagram is None or not self._may_send(len(datagram), now):
            return None
        if not self._may_flow(len(datagram), now):
            return None
        self._ready = None
        self._sent_data += len(datagram)
        if self._window and self._sent_data - self._marked_data >= self._window // 4:
            self._mark(now)
        return self._count(datagram)

    def too_large(self, size: int, now: float) -> None:
        """The system refused a datagram of ``size`` bytes: the path to the remote is narrower."""
        self._largest = min(self._largest, size - 1)
        if size <= self.datagram_bytes:
            self._shrink(now)

    def _cut(self) -> bytes | None:
        while True:
            if self._current is None:
                if not self._messages:
                    return None
                message = self._messages.popleft()
                self._current_bytes = len(message)
                self._current = split(message, self._next_number(), self.dialect, self.datagram_bytes)
            datagram = next(self._current, None)
            if datagram is not None:
                taken = min(self._current_bytes, len(datagram))
                self._current_bytes -= taken
                self.queued_bytes -= taken
                return datagram
            self.queued_bytes -= self._current_bytes
            self._current, self._current_bytes = None, 0

    def _next_number(self) -> int:
        number = self._number
        self._number = (number + 1) % ROUTING_NUMBERS
        return number

    def _lone(self, message: bytes) -> bytes:
        (datagram,) = split(message, self._next_number(), self.dialect, len(message) + OVERHEAD_BYTES)
        return datagram

    def _may_send(self, size: int, now: float) -> bool:
        beyond = self._sent_bytes + size - self._received_bytes - self._advanced_bytes
        if self.is_proven or beyond <= 0:
            return True
        if self._advanced_bytes + beyond > self._limits.datagram_advance_bytes:
            return False
        if not self._advance.draw(beyond, now):
            self._pace_at = now + _LATER_S
            return False
        self._advanced_bytes += beyond
        return True

    def _count(self, datagram: bytes) -> bytes:
        self._sent_bytes += len(datagram)
        return datagram

    def _may_flow(self, size: int, now: float) -> bool:
        if self._window:
            if self._sent_data - self._confirmed_data + size <= self._window:
                self._blocked_since = _NEVER
                return True
            if self._blocked_since == _NEVER:
                self._blocked_since = now
                if self._marked_data < self._sent_data:
                    self._mark(now)
            return False
        self._tokens = min(_BURST_BYTES, self._tokens + (now - self._tokens_at) * _RATE_BYTES_PER_S)
        self._tokens_at = now
        if self._tokens < size:
            self._pace_at = now + max(_TICK_S, (size - self._tokens) / _RATE_BYTES_PER_S)
            return False
        self._tokens -= size
        self._pace_at = _NEVER
        return True

    # -- proof ----------------------------------------------------------------------------------

    def disclosed(self, address: bytes) -> None:
        """A message that leaves tells the remote where to answer to."""
        if len(address) >= _GUESSABLE_BYTES and address not in self._used and len(self._told) < _MARKS:
            self._told.add(address)

    def addressed(self, address: bytes) -> None:
        """A message from the remote goes to ``address``: proof, if only our message could tell it."""
        if address in self._told:
            self.is_proven = True
        elif len(self._used) < _MARKS:
            self._used.add(address)

    # -- questions and answers ------------------------------------------------------------------

    def received(self, size: int, dialect: Dialect, now: float) -> None:
        """A datagram of ``size`` bytes came: answer in its dialect."""
        self._received_bytes += size
        self._heard_at = now
        self.dialect = dialect

    def asked(self, ask: Heartbeat, size: int, *, room: int, now: float) -> None:
        """Answer a question that came in a datagram of ``size`` bytes."""
        answer = encode_heartbeat(answer_to(ask, size, offer=self._offer, room=room))
        if len(answer) + OVERHEAD_BYTES <= size and len(self._control) < _MARKS:
            self._control.append(self._lone(answer))
        if ask.proof == self._offer:
            self.is_proven = True
            self.proof = ask.offer
        if self.is_proven and not self.speaks_heartbeats and now - self._asked_at > _HELLO_S[0]:
            self._asks = 0
            self.hello(now)

    def answered(self, answer: Heartbeat, now: float) -> None:
        """Take an answer; one to a question we did not ask is passed over."""
        if answer.token not in self._marks:
            return
        overtaken = []
        while (pair := self._marks.popitem(last=False))[0] != answer.token:
            overtaken.append(pair[1])
        mark = pair[1]
        first = not self.speaks_heartbeats
        self.is_proven = self.speaks_heartbeats = True
        self.proof = answer.offer
        self._window = max(answer.room, _LEAST_WINDOW_BYTES)
        if mark.sent > self._confirmed_data:
            self._confirmed_data = mark.sent
            self._blocked_since = _NEVER
        took = now - mark.at
        self._round_s = min(max(4 * took, _LEAST_ROUND_S), _LONGEST_ROUND_S)
        self._unanswered = 0
        if any(SMALL_DATAGRAM_BYTES < lost.size <= self.datagram_bytes for lost in overtaken):
            self._shrink(now)  # of this size they do not arrive any more, or one was lost: ask again
        if answer.size == mark.size > self.datagram_bytes:
            self.datagram_bytes = mark.size
        if first:
            self._probe(now)

    def _ask(self, now: float, size: int = 0) -> None:
        """Ask; ``size`` makes the question a datagram of that length."""
        token = self._token()
        # As many zeros at least as the head of a datagram is long: the answer must not be longer.
        zeros = max(OVERHEAD_BYTES, size - LEAST_BYTES - OVERHEAD_BYTES - 3)
        datagram = self._lone(
            encode_heartbeat(Heartbeat(Kind.ASK, token, self.proof, self._offer), zeros=zeros)
        )
        self._marks[token] = _Mark(self._sent_data, now, len(datagram) if size else 0)
        if len(self._marks) > _MARKS:
            self._marks.popitem(last=False)
        self._control.append(datagram)
        self._asked_at = now

    def _mark(self, now: float) -> None:
        """Ask behind what has been sent: the answer says that it has left the remote's buffers."""
        self._marked_data = self._sent_data
        if self.datagram_bytes > SMALL_DATAGRAM_BYTES and now - self._size_asked_at >= _CHECK_SIZE_S:
            self._size_asked_at = now
            self._ask(now, self.datagram_bytes)
        self._ask(now)

    def _probe(self, now: float) -> None:
        for size in PROBED_BYTES:
            if self.datagram_bytes < size <= self._largest:
                self._ask(now, size)

    def _shrink(self, now: float) -> None:
        self.datagram_bytes = SMALL_DATAGRAM_BYTES
        self._size_asked_at = now
        self._probe(now)

    # -- time -----------------------------------------------------------------------------------

    def next_timer(self) -> float:
        """When :meth:`on_timer` is due, or datagrams may flow again; infinite if never."""
        return min(self._pace_at, self._stalled_at, self._ask_at, self._gone_at)

    def on_timer(self, now: float) -> OckamError | None:
        """Do what is due; the error that ends the link, or None."""
        if self._stalled_at <= now:
            return LinkBrokenError(f"the peer took nothing for {self._limits.link_stall_s:.0f} s")
        if self._gone_at <= now:
            what = "the peer was silent" if self.speaks_heartbeats else "nothing came"
            return LinkBrokenError(f"{what} for {self.silent_s(now):.0f} s")
        if self._pace_at <= now:
            self._pace_at = _NEVER
        if self._ask_at <= now:
            if self._blocked_since != _NEVER:
                self._unanswered += 1
                self._mark(now)
            elif self.speaks_heartbeats:
                self._ask(now)
            else:
                self.hello(now)
        return None

    @property
    def _stalled_at(self) -> float:
        return self._blocked_since + self._limits.link_stall_s

    @property
    def _gone_at(self) -> float:
        if self.speaks_heartbeats:
            return self._heard_at + SILENCE_S
        return _NEVER if self._dialled else self._heard_at + self._limits.datagram_idle_s

    @property
    def _ask_at(self) -> float:
        if self._blocked_since != _NEVER:
            return self._asked_at + self._patience_s
        if self.speaks_heartbeats:
            return max(self._asked_at, self._heard_at) + KEEPALIVE_S
        return self._asked_at + _HELLO_S[self._asks - 1] if 0 < self._asks <= len(_HELLO_S) else _NEVER

    def silent_s(self, now: float) -> float:
        """How long nothing has come."""
        return now - self._heard_at

    @property
    def _patience_s(self) -> float:
        return min(self._round_s * (1 << min(self._unanswered, 8)), _LONGEST_ROUND_S)
