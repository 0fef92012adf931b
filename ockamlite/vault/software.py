"""A vault in software: keys are objects of the cryptography library, secrets rest in a key store.

Python cannot erase the bytes it has held; secrets are kept out of reprs, logs and errors, and as
few references to them as possible are made.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ockamlite.errors import DamagedStateError, NotFoundError, UsageError
from ockamlite.vault import primitives
from ockamlite.vault.key_store import StoredKey
from ockamlite.vault.keys import KeyKind, PublicKey, Signature
from ockamlite.vault.vault import KeyHandle, handle_of

if TYPE_CHECKING:
    from ockamlite.vault.key_store import KeyStore


class Ed25519Signer:
    """An Ed25519 private key."""

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        self._key = primitives.ed25519_from_seed(seed)
        self.public_key = PublicKey(KeyKind.ED25519, primitives.ed25519_public(self._key))

    def __repr__(self) -> str:
        """The public half only."""
        return f"<Ed25519Signer {self.public_key.data.hex()}>"

    def sign(self, digest: bytes) -> Signature:
        """Sign the digest as a message of 32 bytes."""
        return Signature(KeyKind.ED25519, self._key.sign(digest))


class P256Signer:
    """A P-256 private key."""

    __slots__ = ("_key", "public_key")

    def __init__(self, scalar: bytes) -> None:
        self._key = primitives.p256_from_scalar(scalar)
        self.public_key = PublicKey(KeyKind.P256, primitives.p256_public(self._key))

    def __repr__(self) -> str:
        """The public half only."""
        return f"<P256Signer {self.public_key.data.hex()}>"

    def sign(self, digest: bytes) -> Signature:
        """Sign the digest as a message of 32 bytes, which ECDSA hashes again."""
        return Signature(KeyKind.P256, primitives.p256_sign(self._key, digest))


class X25519Key:
    """An X25519 private key."""

    __slots__ = ("_key", "public")

    def __init__(self, secret: bytes) -> None:
        self._key = primitives.x25519_from_secret(secret)
        self.public = primitives.x25519_public(self._key)

    def __repr__(self) -> str:
        """The public half only."""
        return f"<X25519Key {self.public.hex()}>"

    def exchange(self, public: bytes) -> bytes:
        """Diffie-Hellman.

        Raises:
            VerificationError: the peer's key is malformed or of low order.
        """
        return primitives.x25519_exchange(self._key, public)


def ephemeral_dh_key() -> X25519Key:
    """A new X25519 key that is kept nowhere, for one handshake."""
    return X25519Key(os.urandom(primitives.KEY_BYTES))


class SoftwareVault:
    """Keys in a key store, secrets in clear: the store guards them by its permissions."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    def generate(self, kind: KeyKind) -> KeyHandle:
        """Make a key pair of random bytes from the operating system."""
        if kind is KeyKind.P256:
            return self.import_key(kind, primitives.p256_random_scalar())
        return self.import_key(kind, os.urandom(primitives.KEY_BYTES))

    def import_key(self, kind: KeyKind, secret: bytes) -> KeyHandle:
        """Keep a private key that was made elsewhere.

        Raises:
            UsageError: not a private key of that kind.
        """
        key = StoredKey(kind, secret)
        try:
            handle = _handle(_load(key))
        except ValueError:
            # Not chained: the cause may quote what it was given.
            raise UsageError(f"not a private {kind.value} key") from None
        self._store.put_key(handle, key)
        return handle

    def signer(self, handle: KeyHandle) -> Ed25519Signer | P256Signer:
        """The signing key.

        Raises:
            NotFoundError: no signing key has that handle.
            DamagedStateError: what is stored is not that key.
        """
        key = self._key(handle)
        if isinstance(key, X25519Key):
            raise NotFoundError(f"key {handle.hex()} does not sign")
        return key

    def dh_key(self, handle: KeyHandle) -> X25519Key:
        """The X25519 key.

        Raises:
            NotFoundError: no X25519 key has that handle.
            DamagedStateError: what is stored is not that key.
        """
        key = self._key(handle)
        if not isinstance(key, X25519Key):
            raise NotFoundError(f"key {handle.hex()} is not an X25519 key")
        return key

    def delete(self, handle: KeyHandle) -> None:
        """Forget a key."""
        self._store.delete_key(handle)

    def _key(self, handle: KeyHandle) -> Ed25519Signer | P256Signer | X25519Key:
        stored = self._store.get_key(handle)
        if stored is None:
            raise NotFoundError(f"no key {handle.hex()}")
        try:
            key = _load(stored)
        except ValueError:
            raise DamagedStateError(f"key {handle.hex()} is damaged", hint=_RESTORE) from None
        if _handle(key) != handle:
            raise DamagedStateError(f"key {handle.hex()} is damaged", hint=_RESTORE)
        return key


_RESTORE = "restore the state folder from a backup"


def _load(key: StoredKey) -> Ed25519Signer | P256Signer | X25519Key:
    if len(key.secret) != primitives.KEY_BYTES:
        raise ValueError("length")
    match key.kind:
        case KeyKind.ED25519:
            return Ed25519Signer(key.secret)
        case KeyKind.P256:
            return P256Signer(key.secret)
        case KeyKind.X25519:
            return X25519Key(key.secret)


def _handle(key: Ed25519Signer | P256Signer | X25519Key) -> KeyHandle:
    return handle_of(key.public if isinstance(key, X25519Key) else key.public_key.data)
