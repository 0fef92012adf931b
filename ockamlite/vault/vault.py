"""The seam between the protocols and where keys are kept: handles, signers, key agreement.

A TPM, a secure element or a key service takes the place of the software vault by offering these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NewType, Protocol

from ockamlite.vault.primitives import sha256

if TYPE_CHECKING:
    from ockamlite.vault.keys import KeyKind, PublicKey, Signature

KeyHandle = NewType("KeyHandle", bytes)
"""Names a private key: the SHA-256 of its public key."""


def handle_of(public: bytes) -> KeyHandle:
    """The handle of the key pair with this public key."""
    return KeyHandle(sha256(public))


class Signer(Protocol):
    """A private key that signs."""

    @property
    def public_key(self) -> PublicKey:
        """The public half."""

    def sign(self, digest: bytes) -> Signature:
        """Sign the 32 bytes of ``digest``, as they are."""


class DhKey(Protocol):
    """An X25519 key pair."""

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""

    def exchange(self, public: bytes) -> bytes:
        """Diffie-Hellman with the public key of a peer.

        Raises:
            VerificationError: the peer's key is not usable.
        """


class Vault(Protocol):
    """Makes keys and uses them; what is secret stays inside.

    Every method raises NotFoundError for a handle without a key, and StateError if the place where
    keys are kept fails.
    """

    def generate(self, kind: KeyKind) -> KeyHandle:
        """Make a key pair."""

    def signer(self, handle: KeyHandle) -> Signer:
        """The key that signs."""

    def dh_key(self, handle: KeyHandle) -> DhKey:
        """The X25519 key."""

    def delete(self, handle: KeyHandle) -> None:
        """Forget a key pair; one that is not there is no error."""
