"""The handshake of a secure channel, and the keys it ends in. No I/O, no clock, no randomness.

It is Noise XX under Ockam's name (:mod:`ockamlite.secure_channels.noise`). The payloads of messages
2 and 3 say who holds the static key; whether that is so, and welcome, is for the caller's ``verify``.

    Initiator(…).message1  →  Responder(…, message1).message2  →  Initiator.receive(message2, …)
    Responder.receive(message3, …)

A message that is spoiled, forged or refused by ``verify`` raises a ``RemoteError`` and changes
nothing: the right one can still come. Message 3 has no answer, so the initiator learns only from
the first message that it can open whether the responder accepted it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar

from ockamlite.errors import ProtocolError
from ockamlite.secure_channels import noise
from ockamlite.secure_channels.nonces import Opener, RekeyBudget, Sealer

T = TypeVar("T")

Verify: TypeAlias = Callable[[bytes, bytes], T]
"""Judges the peer's payload and static key; raises RemoteError to refuse."""


class ChannelCiphers(NamedTuple):
    """The two halves of an open channel."""

    sealer: Sealer
    opener: Opener


class Initiator:
    """The side that begins; it is done once :meth:`receive` has returned.

    Args:
        static: the purpose key that our payload attests.
        ephemeral: a key pair made for this handshake alone.
        payload: our identity, sent in message 3.
        budget: shared by all channels of a node.
        padding: bytes behind message 1, ignored by the peer.
    """

    def __init__(
        self,
        static: noise.DhKey,
        ephemeral: noise.DhKey,
        payload: bytes,
        *,
        budget: RekeyBudget | None = None,
        padding: bytes = b"",
    ) -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._payload = payload
        self._budget = budget if budget is not None else RekeyBudget()
        self._done = False
        self._state, self.message1 = noise.write1(noise.SymmetricState.start(), ephemeral, padding)

    def receive(self, message2: bytes, verify: Verify[T]) -> tuple[bytes, ChannelCiphers, T]:
        """Take the answer: message 3 to send, the channel, and what ``verify`` said of the peer.

        Raises:
            DecodeError: too short or too long.
            VerificationError: not authentic.
            ProtocolError: the handshake is over.
            RemoteError: what ``verify`` raised.
        """
        if self._done:
            raise ProtocolError("the handshake is over")
        read = noise.read2(self._state, self._ephemeral, message2)
        verified = verify(read.payload, read.peer_static)
        state, message3 = noise.write3(read.state, self._static, read.peer_ephemeral, self._payload)
        # A second pair of ciphers would use the same nonces again.
        self._done = True
        first, second = state.split()
        # Unlike standard Noise, the initiator sends with the second key.
        return message3, ChannelCiphers(Sealer(second), Opener(first, self._budget)), verified


class Responder:
    """The side that is asked; it is done once :meth:`receive` has returned.

    Args:
        static: the purpose key that our payload attests.
        ephemeral: a key pair made for this handshake alone.
        payload: our identity, sent in message 2.
        message1: what the initiator sent.
        budget: shared by all channels of a node.

    Raises:
        DecodeError: message 1 is too short or too long.
        VerificationError: the initiator's key is not usable.
    """

    def __init__(
        self,
        static: noise.DhKey,
        ephemeral: noise.DhKey,
        payload: bytes,
        message1: bytes,
        *,
        budget: RekeyBudget | None = None,
    ) -> None:
        self._ephemeral = ephemeral
        self._budget = budget if budget is not None else RekeyBudget()
        self._done = False
        read = noise.read1(noise.SymmetricState.start(), message1)
        self._state, self.message2 = noise.write2(read.state, static, ephemeral, read.peer_ephemeral, payload)

    def receive(self, message3: bytes, verify: Verify[T]) -> tuple[ChannelCiphers, T]:
        """Take the last message: the channel, and what ``verify`` said of the peer.

        Raises:
            DecodeError: too short or too long.
            VerificationError: not authentic.
            ProtocolError: the handshake is over.
            RemoteError: what ``verify`` raised.
        """
        if self._done:
            raise ProtocolError("the handshake is over")
        read = noise.read3(self._state, self._ephemeral, message3)
        verified = verify(read.payload, read.peer_static)
        self._done = True
        first, second = read.state.split()
        return ChannelCiphers(Sealer(first), Opener(second, self._budget)), verified
