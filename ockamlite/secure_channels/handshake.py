"""Opening secure channels: the side that asks and the side that listens.

Both sides keep an unfinished handshake for a short while only, in a table of bounded size, and a
message that does not hold leaves it as it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from ockamlite.errors import (
    AnswerTimeoutError,
    OckamError,
    RemoteError,
    StateError,
    TrustError,
)
from ockamlite.events import Refused
from ockamlite.identities.peer import PeerIdentity, remember, verify_handshake_payload, verify_refresh
from ockamlite.routing.address import Address
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route
from ockamlite.secure_channels.channel import SecureChannel
from ockamlite.secure_channels.nonces import RekeyBudget
from ockamlite.secure_channels.protocol import Initiator, Responder
from ockamlite.secure_channels.trust import check
from ockamlite.vault.software import ephemeral_dh_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.events import OnEvent
    from ockamlite.identities.local import LocalIdentity
    from ockamlite.identities.store import Store
    from ockamlite.limits import Limits
    from ockamlite.routing.router import Router
    from ockamlite.secure_channels.message import Refresh
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

_TRIES_S: Final = (1.5, 3.0, 6.0)
"""Pauses before another message 1: a lost message must not cost the whole time-out."""
_REFUSED_S: Final = 1.0
"""After a refusal, how long a better answer may still come: anybody on the way can send a bad one."""


class SecureChannels:
    """The secure channels of one node."""

    def __init__(
        self, router: Router, limits: Limits, identity: LocalIdentity, store: Store, on_event: OnEvent
    ) -> None:
        self.limits = limits
        self._router = router
        self._identity = identity
        self._store = store
        self._on_event = on_event
        self._budget = RekeyBudget(limits.speculative_rekeys_per_s)
        self._channels: set[SecureChannel] = set()
        self._listeners: list[SecureChannelListener] = []

    def close(self) -> None:
        """Close every channel and listener."""
        for listener in self._listeners:
            listener.close()
        for channel in tuple(self._channels):
            channel.close()

    def listen(self, name: str, trust: Trust) -> SecureChannelListener:
        """Accept channels at ``name``."""
        listener = SecureChannelListener(self, self._router, self.limits, Address.local(name), trust)
        self._listeners.append(listener)
        return listener

    async def connect(self, route: Route, trust: Trust, timeout_s: float) -> SecureChannel:
        """Open a channel to the listener at the end of ``route``."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[SecureChannel] = loop.create_future()
        attempts: list[_Attempt] = []
        try:
            async with asyncio.timeout(timeout_s):
                for pause in (*_TRIES_S, None):
                    attempt = _Attempt(self, self._router, route, trust, done)
                    attempts.append(attempt)
                    await attempt.begin()
                    finished, _ = await asyncio.wait([done], timeout=pause)
                    if finished:
                        break
                return await done
        except TimeoutError as error:
            failure = next((a.failure for a in reversed(attempts) if a.failure is not None), None)
            text = f"no secure channel along {route}: " + (
                str(failure) if failure is not None else f"no answer within {timeout_s:g} s"
            )
            raise AnswerTimeoutError(
                text, hint="the peer may not be there, may not listen here, or may not trust us"
            ) from error
        finally:
            for attempt in attempts:
                attempt.end()
            if not done.done():
                done.cancel()

    # -- what both sides share ------------------------------------------------------------------

    def initiator(self) -> Initiator:
        """A handshake of ours, begun."""
        now = int(time.time())
        static, _ = self._identity.secure_channel_key(now)
        payload = self._identity.handshake_payload(now)
        return Initiator(static, ephemeral_dh_key(), payload, budget=self._budget)

    def responder(self, message1: bytes) -> Responder:
        """The answer to somebody's message 1."""
        now = int(time.time())
        static, _ = self._identity.secure_channel_key(now)
        payload = self._identity.handshake_payload(now)
        return Responder(static, ephemeral_dh_key(), payload, message1, budget=self._budget)

    def verifier(self, trust: Trust) -> Callable[[bytes, bytes], PeerIdentity]:
        """Judges a peer: first who it is, then whether we trust it. Stores nothing."""

        def verify(payload: bytes, static_key: bytes) -> PeerIdentity:
            peer = verify_handshake_payload(
                payload, static_key, int(time.time()), known=self._store.known_identity
            )
            check(trust, peer)
            return peer

        return verify

    def adopt(self, channel: SecureChannel) -> None:
        """Take over a new channel, and remember its peer now that it is trusted."""
        self._channels.add(channel)
        channel.on_closed(self._channels.discard)
        try:
            remember(self._store, channel.identity, int(time.time()))
        except StateError as error:
            logger.warning("peer %s cannot be remembered: %s", channel.peer, error)
        lifetime = channel.identity.attestation_expires_at - time.time()
        if lifetime < 365 * 86400:
            # The peer's key is attested until then, and no longer.
            timer = asyncio.get_running_loop().call_later(
                max(0.0, lifetime), channel.close, "the peer's purpose key has expired"
            )
            channel.on_closed(lambda _: timer.cancel())

    def refreshed(self, channel: SecureChannel, refresh: Refresh) -> None:
        """A peer presents its history and credentials anew."""
        try:
            peer = verify_refresh(
                refresh.history, refresh.credentials, channel.identity, int(time.time()),
                known=self._store.known_identity,
            )  # fmt: skip
            remember(self._store, peer, int(time.time()))
        except OckamError as error:
            logger.warning("refresh of %s ignored: %s", channel.peer, error)
            return
        channel.identity = peer

    def refused(self, at: str, error: RemoteError) -> None:
        """Say who was refused, and why."""
        peer = getattr(error, "peer", None)
        logger.warning("secure channel refused at %s: %s", at, error)
        self._on_event(Refused(str(peer) if peer is not None else None, at, str(error)))


class _Attempt:
    """One handshake that we began."""

    def __init__(
        self,
        channels: SecureChannels,
        router: Router,
        route: Route,
        trust: Trust,
        done: asyncio.Future[SecureChannel],
    ) -> None:
        self._channels = channels
        self._router = router
        self._route = route
        self._trust = trust
        self._done = done
        self._core = channels.initiator()
        self._limits = channels.limits
        self._timer: asyncio.TimerHandle | None = None
        self.failure: RemoteError | None = None
        self._channel: SecureChannel | None = None
        self._address = router.add_random(self._receive)

    async def begin(self) -> None:
        """Send message 1."""
        flow = self._router.flow_of(self._route[0]) if self._route else None
        self._router.open(self._address, (flow,))
        gate = self._router.deliver(Message(self._route, Route((self._address,)), self._core.message1))
        if gate is not None:
            await gate.wait()

    def end(self) -> None:
        """Forget the handshake, unless it became a channel."""
        if self._timer is not None:
            self._timer.cancel()
        if self._channel is None:
            self._router.remove(self._address)

    def _receive(self, message: Message) -> Gate | None:
        if self._channel is not None:
            return self._channel.decrypt(message)
        if self._done.done():
            return None
        remote = message.return_route
        try:
            message3, ciphers, peer = self._core.receive(
                bytes(message.payload), self._channels.verifier(self._trust)
            )
        except RemoteError as error:
            logger.info("answer to our handshake not accepted: %s", error)
            self.failure = error
            if isinstance(error, TrustError) and self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(_REFUSED_S, self._give_up, error)
            return None
        channel = SecureChannel(
            self._router,
            self._limits,
            peer=peer,
            sealer=ciphers.sealer,
            opener=ciphers.opener,
            remote_route=remote,
            decryptor=self._address,
            parent=None,
            on_refresh=self._channels.refreshed,
        )
        self._channel = channel
        self._channels.adopt(channel)
        last = Message(remote, Route((self._address,)), message3)
        gate = self._router.deliver(last)
        channel.prove(last)
        self._done.set_result(channel)
        return gate

    def _give_up(self, error: RemoteError) -> None:
        if not self._done.done():
            self._done.set_exception(error)


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
        self._tokens: dict[Flow, tuple[float, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        router.add(address, self._begin)

    def close(self) -> None:
        """Accept no more; channels that are open stay."""
        self._router.remove(self.address)
        for pending in tuple(self._pending.values()):
            self._drop(pending)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _begin(self, message: Message) -> Gate | None:
        """Answer a message 1, if this source has not asked too often."""
        flow = message.flow
        if not message.return_route or not self._may_begin(flow):
            return None
        try:
            core = self._owner.responder(bytes(message.payload))
        except RemoteError as error:
            self._owner.refused(self.address.name, error)
            return None
        except StateError as error:
            logger.error("cannot answer a handshake: %s", error)
            return None
        self._make_room(flow)
        pending = _Pending(core, flow, message.return_route, self._loop.time())
        pending.address = self._router.add_random(lambda m: self._finish(pending, m))
        self._router.open(pending.address, (flow,))
        self._pending[pending.address] = pending
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._limits.handshake_timeout_s, self._sweep)
        return self._router.deliver(
            Message(message.return_route, Route((pending.address,)), core.message2)
        )  # fmt: skip

    def _may_begin(self, flow: Flow | None) -> bool:
        """A bucket of tokens per source: what costs us two key agreements costs it a token."""
        if flow is None:
            return True
        now = self._loop.time()
        most = float(self._limits.pending_handshakes_per_source)
        left, since = self._tokens.get(flow, (most, now))
        left = min(most, left + (now - since) * self._limits.handshakes_per_source_s)
        if len(self._tokens) > self._limits.links_per_listener:
            self._tokens = {f: t for f, t in self._tokens.items() if f.closed is None}
        if left < 1.0:
            self._tokens[flow] = (left, now)
            return False
        self._tokens[flow] = (left - 1.0, now)
        return True

    def _make_room(self, flow: Flow | None) -> None:
        same = [p for p in self._pending.values() if p.flow is flow]
        if len(same) >= self._limits.pending_handshakes_per_source:
            self._drop(same[0])
        if len(self._pending) >= self._limits.pending_handshakes:
            self._drop(next(iter(self._pending.values())))
        if len(self.channels) >= self._limits.channels_per_listener:
            next(iter(self.channels)).close("too many channels; this one is the oldest")

    def _sweep(self) -> None:
        """Forget what was begun and not finished."""
        oldest = self._loop.time() - self._limits.handshake_timeout_s
        for pending in tuple(self._pending.values()):
            if pending.since <= oldest:
                self._drop(pending)
        self._tokens = {flow: tokens for flow, tokens in self._tokens.items() if flow.closed is None}
        self._sweeper = None
        if self._pending:
            self._sweeper = self._loop.call_later(self._limits.handshake_timeout_s / 2, self._sweep)

    def _closed(self, channel: SecureChannel) -> None:
        self.channels.pop(channel, None)

    def _drop(self, pending: _Pending) -> None:
        self._pending.pop(pending.address, None)
        self._router.remove(pending.address)

    def _finish(self, pending: _Pending, message: Message) -> Gate | None:
        """Take message 3; from then on the address belongs to the channel."""
        if pending.channel is not None:
            return pending.channel.decrypt(message)
        if message.flow is not pending.flow:
            return None
        try:
            ciphers, peer = pending.core.receive(bytes(message.payload), self._owner.verifier(self._trust))
        except RemoteError as error:
            self._owner.refused(self.address.name, error)
            return None
        self._pending.pop(pending.address, None)
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
        pending.channel = channel
        self.channels[channel] = None
        channel.on_closed(self._closed)
        self._owner.adopt(channel)
        logger.info("secure channel with %s", channel.peer)
        return None


class _Pending:
    """A handshake somebody began with us."""

    __slots__ = ("address", "back", "channel", "core", "flow", "since")

    def __init__(self, core: Responder, flow: Flow | None, back: Route, since: float) -> None:
        self.core = core
        self.flow = flow
        self.back = back
        self.since = since
        self.address = Address(0, b"")
        self.channel: SecureChannel | None = None
