"""Messages put together from the pieces that datagrams bring, in any order, from many peers.

No I/O. What is kept of unfinished messages is bounded in bytes, number and time, per peer and in all.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from ockamlite.wire.datagrams import ROUTING_NUMBERS, Dialect

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ockamlite.limits import Limits
    from ockamlite.wire.datagrams import Piece

_PIECE_COST_BYTES: Final = 160
"""What keeping a piece costs besides its bytes: many tiny ones must not fill the memory unseen."""
_WINDOW: Final = 4096
"""How far behind the newest number a message may still be unfinished; a long one is many heartbeats old."""
DONE_S: Final = 5.0
"""How long the numbers of whole messages are remembered: a peer that started anew may use the same ones."""


class _Partial:
    """A message of which some pieces have come."""

    __slots__ = ("begun", "cost", "dialect", "end", "pieces", "size", "total")

    def __init__(self, piece: Piece, now: float) -> None:
        self.begun = now
        self.dialect = piece.dialect
        self.total = piece.total if piece.dialect is Dialect.B else 0
        self.size = -1
        """Dialect B: the length of every piece but the last, once known."""
        self.end = -1
        """Dialect A: the length of the message, once known."""
        self.pieces: dict[int, bytes] = {}
        self.cost = 0

    def accepts(self, piece: Piece) -> bool:
        """True if the piece is new and agrees with what has come; others are as good as lost."""
        length = len(piece.data)
        if piece.dialect is not self.dialect or piece.place in self.pieces:
            return False
        if self.dialect is Dialect.A:
            end = piece.place + length
            return not (piece.total and self.end >= 0) and (self.end < 0 or end <= self.end)
        if piece.total != self.total or self.size < 0:
            return piece.total == self.total
        return length <= self.size if piece.place == self.total - 1 else length == self.size

    def add(self, piece: Piece) -> None:
        length = len(piece.data)
        self.pieces[piece.place] = piece.data
        self.cost += length
        if self.dialect is Dialect.A:
            if piece.total:
                self.end = piece.place + length
        elif piece.place < self.total - 1:
            self.size = length

    @property
    def could_be_whole(self) -> bool:
        if self.dialect is Dialect.A:
            return self.cost == self.end
        return len(self.pieces) == self.total

    def joined(self) -> bytes | None:
        """The message; None if pieces overlap or the last is longer than those before."""
        at = 0
        places = sorted(self.pieces)
        for place in places:
            if self.dialect is Dialect.A and place != at:
                return None
            at += len(self.pieces[place])
        if self.dialect is Dialect.B and self.total > 1 and len(self.pieces[self.total - 1]) > self.size:
            return None
        return b"".join(self.pieces[place] for place in places)


class _Peer:
    """What is kept of one peer."""

    __slots__ = ("cost", "done", "heard_at", "newest", "partials")

    def __init__(self) -> None:
        self.heard_at = 0.0
        self.partials: dict[int, _Partial] = {}
        self.done: OrderedDict[int, float] = OrderedDict()
        self.newest = -1
        self.cost = 0


class Reassembler:
    """Puts messages together for many peers, each known by any hashable value.

    A piece that comes twice, or does not fit what has come of its message, is passed over; the message is
    not. When there is no room the message begun first goes.

    Args:
        limits: the longest message, and how long one may be under way.
        peer_bytes: what one peer may make us keep, the cost of bookkeeping included.
        all_bytes: the same for all of them.
        peers: how many peers are remembered; the one silent for longest goes.
        repeats: how many whole messages of each are remembered.
    """

    def __init__(self, limits: Limits, *, peer_bytes: int, all_bytes: int, peers: int, repeats: int) -> None:
        self._limits = limits
        self._peer_bytes = peer_bytes
        self._all_bytes = all_bytes
        self._most_peers = peers
        self._repeats = repeats
        self._peers: OrderedDict[Hashable, _Peer] = OrderedDict()
        self._begun: OrderedDict[tuple[Hashable, int], None] = OrderedDict()
        self.pending_bytes = 0
        """Kept of unfinished messages, bookkeeping included."""

    @property
    def peers(self) -> int:
        """How many peers are remembered."""
        return len(self._peers)

    def add(self, remote: Hashable, piece: Piece, now: float) -> bytes | None:
        """Take a piece from ``remote``; the message that it makes whole, or None."""
        self.expire(now)
        peer = self._peers.get(remote)
        if peer is None:
            if len(self._peers) >= self._most_peers:
                self.forget(next(iter(self._peers)))
            peer = self._peers[remote] = _Peer()
        self._peers.move_to_end(remote)
        peer.heard_at = now
        done = peer.done.get(piece.number)
        if done is not None and now - done < DONE_S:
            return None
        self._advance(remote, peer, piece.number)
        if piece.place == 0 and piece.total == 1:
            self._drop(remote, peer, piece.number)
            self._remember(peer, piece.number, now)
            return piece.data if len(piece.data) <= self._limits.message_bytes else None
        partial = peer.partials.get(piece.number)
        if partial is None:
            partial = _Partial(piece, now)
        elif not partial.accepts(piece):
            return None
        if self._too_long(partial, piece):
            self._give_up(remote, piece.number, now)
            return None
        cost = len(piece.data) + _PIECE_COST_BYTES
        if piece.number not in peer.partials:
            peer.partials[piece.number] = partial
            self._begun[remote, piece.number] = None
            while len(peer.partials) > self._limits.datagram_messages_per_peer:
                self._give_up(remote, next(iter(peer.partials)), now)
        partial.add(piece)
        peer.cost += cost
        self.pending_bytes += cost
        if partial.could_be_whole:
            self._drop(remote, peer, piece.number)
            message = partial.joined()
            if message is not None:
                self._remember(peer, piece.number, now)
            return message
        while peer.cost > self._peer_bytes:
            self._give_up(remote, next(iter(peer.partials)), now)
        while self.pending_bytes > self._all_bytes:
            self._give_up(*next(iter(self._begun)), now)
        return None

    def has_begun(self, remote: Hashable, number: int) -> bool:
        """True if some pieces of that message are kept."""
        return (remote, number) in self._begun

    def forget(self, remote: Hashable) -> None:
        """Drop what is kept of ``remote``."""
        peer = self._peers.get(remote)
        if peer is not None:
            for number in tuple(peer.partials):
                self._drop(remote, peer, number)
            del self._peers[remote]

    def expire(self, now: float) -> None:
        """Drop messages that have been under way for too long, and peers of whom nothing need be known."""
        while self._begun:
            remote, number = next(iter(self._begun))
            if now - self._peers[remote].partials[number].begun < self._limits.datagram_reassembly_s:
                break
            self._give_up(remote, number, now)
        while self._peers:
            remote, peer = next(iter(self._peers.items()))
            if peer.partials or now - peer.heard_at < DONE_S:
                return
            del self._peers[remote]

    def _too_long(self, partial: _Partial, piece: Piece) -> bool:
        if piece.dialect is Dialect.A:
            return piece.place + len(piece.data) > self._limits.message_bytes
        size = max(partial.size, len(piece.data) if piece.place < piece.total - 1 else 0)
        return (piece.total - 1) * size > self._limits.message_bytes

    def _advance(self, remote: Hashable, peer: _Peer, number: int) -> None:
        """Note the newest number; what is unfinished far from it would be mistaken for later messages."""
        ahead = (number - peer.newest) % ROUTING_NUMBERS
        if peer.newest >= 0 and ahead > ROUTING_NUMBERS // 2 and ROUTING_NUMBERS - ahead < _WINDOW:
            return
        if peer.newest >= 0 and not ahead:
            return
        peer.newest = number
        for old in [n for n in peer.partials if (number - n) % ROUTING_NUMBERS >= _WINDOW]:
            self._drop(remote, peer, old)

    def _give_up(self, remote: Hashable, number: int, now: float) -> None:
        """Drop a message for good: what comes late of it must not push out another."""
        peer = self._peers[remote]
        self._drop(remote, peer, number)
        self._remember(peer, number, now)

    def _drop(self, remote: Hashable, peer: _Peer, number: int) -> None:
        partial = peer.partials.pop(number, None)
        if partial is not None:
            del self._begun[remote, number]
            cost = partial.cost + len(partial.pieces) * _PIECE_COST_BYTES
            peer.cost -= cost
            self.pending_bytes -= cost

    def _remember(self, peer: _Peer, number: int, now: float) -> None:
        peer.done.pop(number, None)
        peer.done[number] = now
        if len(peer.done) > self._repeats:
            peer.done.popitem(last=False)
