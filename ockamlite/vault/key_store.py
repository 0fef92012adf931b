"""Where the software vault keeps secrets: the interface, and one in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ockamlite.vault.keys import KeyKind
    from ockamlite.vault.vault import KeyHandle


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A private key as it is stored."""

    kind: KeyKind
    secret: bytes = field(repr=False)
    """32 bytes: an Ed25519 seed, a P-256 scalar (big-endian), an X25519 secret."""


class KeyStore(Protocol):
    """Keeps private keys by handle. All methods raise StateError if they cannot."""

    def put_key(self, handle: KeyHandle, key: StoredKey) -> None:
        """Keep a key; the same one may be put twice."""

    def get_key(self, handle: KeyHandle) -> StoredKey | None:
        """The key, or None."""

    def delete_key(self, handle: KeyHandle) -> None:
        """Forget a key; one that is not there is no error."""


class MemoryKeyStore:
    """Keys that are gone when the process ends."""

    def __init__(self) -> None:
        self._keys: dict[KeyHandle, StoredKey] = {}

    def put_key(self, handle: KeyHandle, key: StoredKey) -> None:
        """Keep a key."""
        self._keys[handle] = key

    def get_key(self, handle: KeyHandle) -> StoredKey | None:
        """The key, or None."""
        return self._keys.get(handle)

    def delete_key(self, handle: KeyHandle) -> None:
        """Forget a key."""
        self._keys.pop(handle, None)

    def snapshot(self) -> dict[KeyHandle, StoredKey]:
        """What is kept now, for :meth:`restore`."""
        return dict(self._keys)

    def restore(self, snapshot: dict[KeyHandle, StoredKey]) -> None:
        """Go back to an earlier snapshot."""
        self._keys = snapshot
