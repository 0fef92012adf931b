"""Public keys and signatures as values, and the check of one by the other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from ockamlite.errors import UsageError
from ockamlite.vault.primitives import ed25519_verify, p256_verify

SIGNATURE_BYTES: Final = 64


class KeyKind(Enum):
    """What a key is for, and on which curve."""

    ED25519 = "ed25519"
    """Signs (RFC 8032)."""
    P256 = "p256"
    """Signs: ECDSA with SHA-256, what secure elements usually have."""
    X25519 = "x25519"
    """Agrees on secrets (RFC 7748)."""

    @property
    def public_bytes(self) -> int:
        """Length of a public key; P-256 is an uncompressed point."""
        return 65 if self is KeyKind.P256 else 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key.

    Raises:
        UsageError: not as long as keys of its kind are.
    """

    kind: KeyKind
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != self.kind.public_bytes:
            raise UsageError(f"{self.kind.value} key of {len(self.data)} bytes")

    def verifies(self, signature: Signature, digest: bytes) -> bool:
        """True if ``signature`` over the 32 bytes of ``digest`` is by this key and of its kind."""
        if signature.kind is not self.kind:
            return False
        if self.kind is KeyKind.ED25519:
            return ed25519_verify(self.data, signature.data, digest)
        return self.kind is KeyKind.P256 and p256_verify(self.data, signature.data, digest)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of 64 bytes: Ed25519, or ``r || s`` of P-256.

    Raises:
        UsageError: another length, or a kind of key that does not sign.
    """

    kind: KeyKind
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != SIGNATURE_BYTES or self.kind is KeyKind.X25519:
            raise UsageError(f"{self.kind.value} signature of {len(self.data)} bytes")
