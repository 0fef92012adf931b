"""The secure channels of a node, and opening one: the side that asks.

A message of a handshake that does not hold leaves it as it was; it is repeated while no answer comes,
and forgotten after a short while. The side that listens is in
:mod:`ockamlite.secure_channels.listener`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from ockamlite.errors import (
    AnswerTimeoutError,
    ClosedError,
    LinkClosedError,
    LocalError,
    OckamError,
    RemoteError,
    StateError,
)
from ockamlite.events import Refused
from ockamlite.identities.change_history import VerifiedHistories
from ockamlite.identities.peer import PeerIdentity, verify_handshake_payload, verify_refresh
from ockamlite.routing.address import Address
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.routing.tally import Tallies
from ockamlite.secure_channels.channel import SecureChannel
from ockamlite.secure_channels.listener import SecureChannelListener
from ockamlite.secure_channels.nonces import RekeyBudget
from ockamlite.secure_channels.protocol import Initiator, Responder
from ockamlite.secure_channels.trust import TrustEveryone, check
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
    from ockamlite.vault.vault import DhKey
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

_TRIES_S: Final = (1.5, 3.0, 6.0)
"""Pauses before another message 1: a lost message must not cost the whole time-out."""
_REFUSED_S: Final = 1.0
"""After a refusal, how long a better answer may still come: anybody on the way can send a bad one."""


class SecureChannels:
    """The secure channels of one node."""

    def __init__(
        self,
        router: Router,
        limits: Limits,
        identity: LocalIdentity,
        store: Store,
        on_event: OnEvent,
        *,
        pads: bool = False,
    ) -> None:
        self.limits = limits
        self._router = router
        self._identity = identity
        self._store = store
        self._on_event = on_event
        self._pads = pads
        self._budget = RekeyBudget(limits.speculative_rekeys_per_s)
        self._histories = VerifiedHistories()
        self._channels: set[SecureChannel] = set()
        self._listeners: set[SecureChannelListener] = set()
        self._openings: set[_Opening] = set()
        self._refusals = Tallies()
        self._refreshes_ignored = Tallies()
        self._not_remembered = Tallies()

    def close(self) -> None:
        """Close every channel and listener; whoever waits for a channel gets a ClosedError."""
        for listener in tuple(self._listeners):
            listener.close()
        for opening in tuple(self._openings):
            opening.fail(ClosedError("the node is closing"))
        for channel in tuple(self._channels):
            channel.close()

    def listen(self, name: str, trust: Trust) -> SecureChannelListener:
        """Accept channels at ``name``.

        Raises:
            StateError: our key can be neither read nor made, so that nobody could be answered.
        """
        self._present()
        listener = SecureChannelListener(self, self._router, self.limits, Address.local(name), trust)
        self._listeners.add(listener)
        return listener

    def stopped(self, listener: SecureChannelListener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)

    async def connect(self, route: Route, trust: Trust, timeout_s: float) -> SecureChannel:
        """Open a channel to the listener at the end of ``route``."""
        done: asyncio.Future[SecureChannel] = asyncio.get_running_loop().create_future()
        opening = _Opening(done)
        attempts: list[_Attempt] = []
        flow = self._router.flow_of(route[0]) if route else None
        if flow is not None:
            flow.watch(opening)
        self._openings.add(opening)
        channel: SecureChannel | None = None
        try:
            async with asyncio.timeout(timeout_s):
                for pause in (*_TRIES_S, None):
                    attempt = _Attempt(self, self._router, route, trust, done)
                    attempts.append(attempt)
                    await attempt.begin()
                    finished, _ = await asyncio.wait([done], timeout=pause)
                    if finished:
                        break
                channel = await done
                return channel
        except TimeoutError as error:
            failure = next((a.failure for a in reversed(attempts) if a.failure is not None), None)
            text = f"no secure channel along {route}: " + (
                str(failure) if failure is not None else f"no answer within {timeout_s:g} s"
            )
            raise AnswerTimeoutError(
                text, hint="the peer may not be there, may not listen here, or may not trust us"
            ) from error
        finally:
            self._openings.discard(opening)
            if flow is not None:
                flow.watchers.discard(opening)
            for attempt in attempts:
                attempt.end()
            if not done.cancel() and channel is None and done.exception() is None:
                # Opened in the very moment in which its caller was cancelled.
                done.result().close("nobody waits for it any more")

    # -- what both sides share ------------------------------------------------------------------

    def initiator(self) -> Initiator:
        """A handshake of ours, begun."""
        static, payload = self._present()
        return Initiator(static, ephemeral_dh_key(), payload, budget=self._budget)

    def responder(self, message1: bytes) -> Responder:
        """The answer to somebody's message 1."""
        static, payload = self._present()
        return Responder(static, ephemeral_dh_key(), payload, message1, budget=self._budget)

    def _present(self) -> tuple[DhKey, bytes]:
        """Our static key, and the payload that attests it."""
        now = int(time.time())
        while True:
            static, attestation = self._identity.secure_channel_key(now)
            payload = self._identity.handshake_payload(now)
            # Otherwise another process has rotated the identity between the two.
            if attestation.encoded in payload:
                return static, payload

    def verifier(self, trust: Trust) -> Callable[[bytes, bytes], PeerIdentity]:
        """Judges a peer: first who it is, then whether we trust it. Stores nothing."""

        def verify(payload: bytes, static_key: bytes) -> PeerIdentity:
            peer = verify_handshake_payload(
                payload, static_key, int(time.time()),
                known=self._store.known_identity, cache=self._histories,
            )  # fmt: skip
            check(trust, peer)
            return peer

        return verify

    def adopt(self, channel: SecureChannel, trust: Trust) -> None:
        """Take over a new channel, and remember its peer now that it is trusted."""
        self._end_revoked(channel.identity)
        channel.pads = self._pads
        self._channels.add(channel)
        channel.on_closed(self._channels.discard)
        try:
            known = not isinstance(trust, TrustEveryone)
            self._store.remember(channel.identity.identity, int(time.time()), add=known)
        except OckamError as error:
            if count := self._not_remembered.add(type(error)):
                logger.warning("peer %s cannot be remembered: %s (%d so far)", channel.peer, error, count)
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
                known=self._store.known_identity, cache=self._histories,
            )  # fmt: skip
            self._store.remember(peer.identity, int(time.time()), add=False)
        except OckamError as error:
            if count := self._refreshes_ignored.add(channel.peer):
                logger.warning("refresh of %s ignored: %s (%d so far)", channel.peer, error, count)
            return
        self._end_revoked(peer)
        channel.identity = peer

    def _end_revoked(self, peer: PeerIdentity) -> None:
        """Close the channels whose peer has revoked, in a change that is new to us, what opened them."""
        changes = peer.identity.changes
        if len(changes) == 1:
            return
        for channel in tuple(self._channels):
            known = channel.identity
            if known.identifier == peer.identifier and any(
                change.revoke_all_purpose_keys for change in changes[len(known.identity.changes) :]
            ):
                channel.close("the peer has revoked the key that opened it")

    def refused(self, at: str, error: OckamError) -> None:
        """Say who was refused, and why; not every one of very many."""
        peer = getattr(error, "peer", None)
        if count := self._refusals.add(peer):
            logger.warning("secure channel refused at %s: %s (%d so far)", at, error, count)
            self._on_event(Refused(str(peer) if peer is not None else None, at, str(error)))


class _Opening:
    """Somebody who waits for a channel; in vain if what is under it ends."""

    def __init__(self, done: asyncio.Future[SecureChannel]) -> None:
        self._done = done

    def fail(self, error: OckamError) -> None:
        """Wait no more."""
        if not self._done.done():
            self._done.set_exception(error)

    def flow_lost_messages(self) -> None:
        """Handshakes are repeated."""

    def flow_closed(self, reason: str) -> None:
        """No answer can come."""
        self.fail(LinkClosedError(f"no secure channel: {reason}"))


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
        self.failure: OckamError | None = None
        self._refusal: OckamError | None = None
        self._became_channel = False
        self._address = router.add_random(self._receive)
        router.open(self._address, (router.flow_of(route[0]) if route else None,))

    async def begin(self) -> None:
        """Send message 1."""
        gate = self._router.deliver(Message(self._route, Route((self._address,)), self._core.message1))
        if gate is not None:
            await gate.wait()

    def end(self) -> None:
        """Forget the handshake, unless it became a channel."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._became_channel:
            self._router.remove(self._address)

    def _verify(self, payload: bytes, static_key: bytes) -> PeerIdentity:
        try:
            return self._channels.verifier(self._trust)(payload, static_key)
        except OckamError as error:
            self._refusal = error
            raise

    def _receive(self, message: Message) -> Gate | None:
        remote = message.return_route
        if self._done.done() or not remote:
            return None
        try:
            message3, ciphers, peer = self._core.receive(bytes(message.payload), self._verify)
        except (RemoteError, StateError) as error:
            logger.debug("answer to our handshake not accepted: %s", error)
            self.failure = error
            if error is self._refusal and self._timer is None:
                # Who it is, is proved, and not to our liking: more than somebody's spoiled bytes.
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
        self._became_channel = True
        self._channels.adopt(channel, self._trust)
        last = Message(remote, Route((self._address,)), message3)
        try:
            gate = self._router.deliver(last)
        except LocalError as error:
            channel.close(f"the way to the peer is gone: {error}")
            return None
        channel.prove(last)
        self._done.set_result(channel)
        return gate

    def _give_up(self, error: OckamError) -> None:
        if not self._done.done():
            self._done.set_exception(error)
