"""Accepting secure channels: the side that listens.

Unfinished handshakes are few and short-lived, whatever strangers send: a table of bounded size, so many
of one source, so many a second. A message that does not hold leaves a handshake as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

from ockamlite.errors import RemoteError, StateError, TrustError
from ockamlite.routing.address import Address
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route
from ockamlite.secure_channels.channel import SecureChannel

if TYPE_CHECKING:
    from ockamlite.identities.peer import PeerIdentity
    from ockamlite.limits import Limits
    from ockamlite.routing.router import Router
    from ockamlite.secure_channels.handshake import SecureChannels
    from ockamlite.secure_channels.protocol import Responder
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

_MOST_REFUSALS: Final = 3
"""Identities judged per handshake: each may cost a hundred signature checks."""
_PRUNE_AT: Final = 256


_Source: TypeAlias = "tuple[Flow | None, tuple[Address, ...]]"
"""A flow, and which of those behind its other end."""


class SecureChannelListener:
    """An address where secure channels are accepted; its flow is the parent of theirs.

    Made by ``Node.secure_channel_listener``. Open workers to it to offer them to every channel it
    accepts.
    """

    def __init__(
        self, channels: SecureChannels, router: Router, limits: Limits, address: Address, trust: Trust
    ) -> None:
        self.address = address
        self.flow = Flow(f"secure channels at {address.name}")
        self.channels: dict[SecureChannel, None] = {}
        self._owner = channels
        self._router = router
        self._limits = limits
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._pending: dict[Address, _Pending] = {}
        most, per_s = float(limits.pending_handshakes_per_source), limits.handshakes_per_source_s
        self._buckets = _Buckets(most, per_s)
        self._sub_buckets = _Buckets(most / 2, per_s / 4)
        self._of_peer: dict[object, dict[SecureChannel, None]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        router.add(address, self._begin)

    def close(self) -> None:
        """Accept no more; channels that are open stay."""
        self._owner.stopped(self)
        self._router.remove(self.address)
        for pending in tuple(self._pending.values()):
            self._drop(pending)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _begin(self, message: Message) -> Gate | None:
        """Answer a message 1, if this source has not asked too often."""
        flow = message.flow
        # What a relay put behind our link: one of its links. Who sends over it cannot choose that.
        source = (flow, message.return_route[1:2])
        if not message.return_route or not self._may_begin(source):
            return None
        try:
            core = self._owner.responder(bytes(message.payload))
        except (RemoteError, StateError) as error:
            self._owner.refused(self.address.name, error)
            return None
        self._make_room(source)
        pending = _Pending(core, source, message.return_route, self._loop.time())
        pending.address = self._router.add_random(lambda m: self._finish(pending, m))
        self._router.open(pending.address, (flow,))
        self._pending[pending.address] = pending
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._limits.handshake_timeout_s, self._sweep)
        return self._router.deliver(
            Message(message.return_route, Route((pending.address,)), core.message2)
        )  # fmt: skip

    def _may_begin(self, source: _Source) -> bool:
        """A bucket of tokens per source: what costs us two key agreements costs it a token.

        Nobody behind a relay gets all that the link to the relay may have.
        """
        if source[0] is None:
            return True
        now = self._loop.time()
        if self._buckets.left(source[0], now) < 1.0 or not self._sub_buckets.take(source, now):
            return False
        return self._buckets.take(source[0], now)

    def _make_room(self, source: _Source) -> None:
        """The oldest handshake of a source that has too many gives way, or of the source that has most."""
        flow = source[0]
        if len(self._pending) < min(
            self._limits.pending_handshakes, self._limits.pending_handshakes_per_source
        ):
            return
        counts = Counter(pending.source[0] for pending in self._pending.values())
        if counts[flow] >= self._limits.pending_handshakes_per_source:
            heaviest = flow
        elif len(self._pending) >= self._limits.pending_handshakes:
            heaviest = counts.most_common(1)[0][0]
        else:
            return
        sources = Counter(p.source for p in self._pending.values() if p.source[0] is heaviest)
        most = sources.most_common(1)[0][0]
        self._drop(next(p for p in self._pending.values() if p.source == most))

    def _sweep(self) -> None:
        """Forget what was begun and not finished."""
        oldest = self._loop.time() - self._limits.handshake_timeout_s
        for pending in tuple(self._pending.values()):
            flow = pending.source[0]
            if pending.since <= oldest or (flow is not None and flow.closed is not None):
                self._drop(pending)
        self._sweeper = None
        if self._pending:
            self._sweeper = self._loop.call_later(self._limits.handshake_timeout_s / 2, self._sweep)

    def _closed(self, channel: SecureChannel) -> None:
        self.channels.pop(channel, None)
        known = self._of_peer.get(channel.peer, {})
        known.pop(channel, None)
        if not known:
            self._of_peer.pop(channel.peer, None)

    def _end_idle(self, peer: object) -> None:
        """Close a channel for one more with ``peer``: of this peer if it has too many, or of who has most."""
        known = self._of_peer.get(peer, {})
        if len(known) < self._limits.channels_per_peer:
            if len(self.channels) < self._limits.channels_per_listener:
                return
            known = max(self._of_peer.values(), key=len)
            if len(known) == 1:
                known = self.channels
        longest = max(known, key=lambda channel: channel.idle_looks)
        longest.close("too many channels; this one was idle for longest")

    def _drop(self, pending: _Pending) -> None:
        self._pending.pop(pending.address, None)
        self._router.remove(pending.address)

    def _finish(self, pending: _Pending, message: Message) -> Gate | None:
        """Take message 3; from then on the address belongs to the channel."""
        if message.flow is not pending.source[0]:
            return None

        before = pending.judged

        def verify(payload: bytes, static_key: bytes) -> PeerIdentity:
            # Only who began the handshake can get here; what it shows will not become better.
            pending.judged += 1
            return self._owner.verifier(self._trust)(payload, static_key)

        try:
            ciphers, peer = pending.core.receive(bytes(message.payload), verify)
        except (RemoteError, StateError) as error:
            if pending.judged == before:
                # Data that overtook message 3, or follows one that was refused; or anybody's bytes.
                logger.debug("message 3 at %s not accepted: %s", self.address.name, error)
            elif not before:
                self._owner.refused(self.address.name, error)
            if pending.judged >= _MOST_REFUSALS or isinstance(error, TrustError):
                self._drop(pending)
            return None
        self._pending.pop(pending.address, None)
        self._end_idle(peer.identifier)
        channel = SecureChannel(
            self._router,
            self._limits,
            peer=peer,
            sealer=ciphers.sealer,
            opener=ciphers.opener,
            remote_route=pending.back,
            decryptor=pending.address,
            parent=self.flow,
            on_refresh=self._owner.refreshed,
        )
        channel.confirmed.set_result(None)
        self.channels[channel] = None
        self._of_peer.setdefault(channel.peer, {})[channel] = None
        channel.on_closed(self._closed)
        self._owner.adopt(channel, self._trust)
        logger.info("secure channel with %s", channel.peer)
        return None


class _Pending:
    """A handshake somebody began with us."""

    __slots__ = ("address", "back", "core", "judged", "since", "source")

    def __init__(self, core: Responder, source: _Source, back: Route, since: float) -> None:
        self.core = core
        self.source = source
        self.back = back
        self.since = since
        self.address = Address(0, b"")
        self.judged = 0


class _Buckets:
    """A bucket of tokens for each of many; those that are full again need not be kept."""

    def __init__(self, most: float, per_s: float) -> None:
        self._most = most
        self._per_s = per_s
        self._left: dict[object, tuple[float, float]] = {}
        self._prune_at = _PRUNE_AT

    def left(self, key: object, now: float) -> float:
        """How many tokens there are."""
        left, since = self._left.get(key, (self._most, now))
        return min(self._most, left + (now - since) * self._per_s)

    def take(self, key: object, now: float) -> bool:
        """Take a token; False if there is none."""
        left = self.left(key, now)
        if left < 1.0:
            return False
        if len(self._left) >= self._prune_at:
            full_s = self._most / self._per_s
            self._left = {k: t for k, t in self._left.items() if now - t[1] < full_s}
            self._prune_at = max(_PRUNE_AT, 2 * len(self._left))
        self._left[key] = (left - 1.0, now)
        return True
