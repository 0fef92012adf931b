"""The XX handshake of Noise (revision 34) with X25519, AES-256-GCM and SHA-256. No I/O, no randomness.

Ockam differs from the standard in the protocol name, and in which side sends with which final key
(see :mod:`ockamlite.secure_channels.protocol`); everything here is also standard Noise.

The state is a value: each message is a function from one state to the next, so that a message that
does not hold leaves the state before it to be used again.

    message 1  →  e
    message 2  ←  e, ee, s, es
    message 3  →  s, se
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from ockamlite.errors import DecodeError, UsageError, VerificationError
from ockamlite.limits import LIMITS
from ockamlite.vault.primitives import KEY_BYTES, TAG_BYTES, Aead, hkdf2, sha256
from ockamlite.vault.vault import DhKey as DhKey  # noqa: TC001  (handed on to the protocol)

OCKAM_XX: Final = b"OCKAM_XX_25519_AES256_GCM_SHA256"
_SEALED_KEY_BYTES: Final = KEY_BYTES + TAG_BYTES


@dataclass(frozen=True, slots=True)
class SymmetricState:
    """Noise's SymmetricState and CipherState (§5.1, §5.2) as one value."""

    chaining_key: bytes = field(repr=False)
    transcript: bytes
    """Noise's ``h``: the hash of everything said so far."""
    key: bytes | None = field(default=None, repr=False)
    nonce: int = 0

    @classmethod
    def start(cls, name: bytes = OCKAM_XX, prologue: bytes = b"") -> SymmetricState:
        """The state before message 1."""
        first = name.ljust(32, b"\0") if len(name) <= 32 else sha256(name)
        return cls(first, first).mix_hash(prologue)

    def mix_hash(self, data: bytes) -> SymmetricState:
        """Add ``data`` to the transcript."""
        return replace(self, transcript=sha256(self.transcript + data))

    def mix_key(self, shared: bytes) -> SymmetricState:
        """Make a new key from a Diffie-Hellman result.

        Raises:
            VerificationError: the result is zero: the peer's key is of low order.
        """
        if not any(shared):
            raise VerificationError("the peer's X25519 key is of low order")
        chaining_key, key = hkdf2(self.chaining_key, shared)
        return replace(self, chaining_key=chaining_key, key=key, nonce=0)

    def encrypt(self, plaintext: bytes) -> tuple[SymmetricState, bytes]:
        """Noise's EncryptAndHash: the next state and the ciphertext."""
        if self.key is None:
            return self.mix_hash(plaintext), plaintext
        sealed = Aead(self.key).seal(self.nonce.to_bytes(12, "big"), plaintext, self.transcript)
        return replace(self.mix_hash(sealed), nonce=self.nonce + 1), sealed

    def decrypt(self, sealed: bytes) -> tuple[SymmetricState, bytes]:
        """Noise's DecryptAndHash: the next state and the plaintext.

        Raises:
            VerificationError: the tag does not fit.
        """
        if self.key is None:
            return self.mix_hash(sealed), sealed
        plaintext = Aead(self.key).open(self.nonce.to_bytes(12, "big"), sealed, self.transcript)
        return replace(self.mix_hash(sealed), nonce=self.nonce + 1), plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The two final keys; in standard Noise the initiator sends with the first."""
        return hkdf2(self.chaining_key, b"")


class Read1(NamedTuple):
    """What the responder read in message 1."""

    state: SymmetricState
    peer_ephemeral: bytes
    payload: bytes


class Read2(NamedTuple):
    """What the initiator read in message 2."""

    state: SymmetricState
    peer_ephemeral: bytes
    peer_static: bytes
    payload: bytes


class Read3(NamedTuple):
    """What the responder read in message 3."""

    state: SymmetricState
    peer_static: bytes
    payload: bytes


def write1(state: SymmetricState, ephemeral: DhKey, payload: bytes = b"") -> tuple[SymmetricState, bytes]:
    """Initiator: the state after message 1, and the message.

    Raises:
        UsageError: the payload is too long.
    """
    state, rest = state.mix_hash(ephemeral.public).encrypt(payload)
    return state, _bounded(ephemeral.public + rest)


def read1(state: SymmetricState, message: bytes) -> Read1:
    """Responder: read message 1.

    Raises:
        DecodeError: too short or too long.
    """
    _check_length(message, KEY_BYTES)
    ephemeral = message[:KEY_BYTES]
    state, payload = state.mix_hash(ephemeral).decrypt(message[KEY_BYTES:])
    return Read1(state, ephemeral, payload)


def write2(
    state: SymmetricState, static: DhKey, ephemeral: DhKey, peer_ephemeral: bytes, payload: bytes
) -> tuple[SymmetricState, bytes]:
    """Responder: the state after message 2, and the message.

    Raises:
        VerificationError: the peer's ephemeral key is not usable.
        UsageError: the payload is too long.
    """
    state = state.mix_hash(ephemeral.public).mix_key(ephemeral.exchange(peer_ephemeral))
    state, sealed_static = state.encrypt(static.public)
    state, sealed = state.mix_key(static.exchange(peer_ephemeral)).encrypt(payload)
    return state, _bounded(ephemeral.public + sealed_static + sealed)


def read2(state: SymmetricState, ephemeral: DhKey, message: bytes) -> Read2:
    """Initiator: read message 2.

    Raises:
        DecodeError: too short or too long.
        VerificationError: a key is not usable or a tag does not fit.
    """
    _check_length(message, KEY_BYTES + _SEALED_KEY_BYTES)
    peer_ephemeral = message[:KEY_BYTES]
    state = state.mix_hash(peer_ephemeral).mix_key(ephemeral.exchange(peer_ephemeral))
    state, peer_static = state.decrypt(message[KEY_BYTES : KEY_BYTES + _SEALED_KEY_BYTES])
    state = state.mix_key(ephemeral.exchange(peer_static))
    state, payload = state.decrypt(message[KEY_BYTES + _SEALED_KEY_BYTES :])
    return Read2(state, peer_ephemeral, peer_static, payload)


def write3(
    state: SymmetricState, static: DhKey, peer_ephemeral: bytes, payload: bytes
) -> tuple[SymmetricState, bytes]:
    """Initiator: the final state, and message 3.

    Raises:
        VerificationError: the peer's ephemeral key is not usable.
        UsageError: the payload is too long.
    """
    state, sealed_static = state.encrypt(static.public)
    state, sealed = state.mix_key(static.exchange(peer_ephemeral)).encrypt(payload)
    return state, _bounded(sealed_static + sealed)


def read3(state: SymmetricState, ephemeral: DhKey, message: bytes) -> Read3:
    """Responder: read message 3.

    Raises:
        DecodeError: too short or too long.
        VerificationError: a key is not usable or a tag does not fit.
    """
    _check_length(message, _SEALED_KEY_BYTES)
    state, peer_static = state.decrypt(message[:_SEALED_KEY_BYTES])
    state = state.mix_key(ephemeral.exchange(peer_static))
    state, payload = state.decrypt(message[_SEALED_KEY_BYTES:])
    return Read3(state, peer_static, payload)


def _check_length(message: bytes, least: int) -> None:
    if not least <= len(message) <= LIMITS.handshake_bytes:
        raise DecodeError(
            f"handshake message of {len(message)} bytes, allowed are {least} to {LIMITS.handshake_bytes}"
        )


def _bounded(message: bytes) -> bytes:
    if len(message) > LIMITS.handshake_bytes:
        raise UsageError(f"handshake message of {len(message)} bytes exceeds {LIMITS.handshake_bytes}")
    return message
