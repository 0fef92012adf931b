"""What a store keeps, as plain rows: the interface, and one in memory.

Only :mod:`ockamlite.identities.store` gives the rows their meaning.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ockamlite.vault.key_store import MemoryKeyStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from ockamlite.vault.key_store import KeyStore


class Rows(Protocol):
    """Tables of one store. Identifiers and histories are bytes; all methods raise StateError."""

    @property
    def keys(self) -> KeyStore:
        """Private keys; changes to them belong to the transactions too."""

    def transaction(self) -> AbstractContextManager[None]:
        """All of what happens inside, or nothing; nobody else writes meanwhile. May be nested."""

    def version(self) -> int:
        """Another number whenever somebody else has written."""

    def local(self, name: str) -> bytes | None:
        """The history of our identity of that name."""

    def local_by_identifier(self, identifier: bytes) -> bytes | None:
        """The history of our identity with that identifier."""

    def all_local(self) -> list[tuple[str, bytes]]:
        """Names and histories of our identities, by name."""

    def put_local(self, name: str, identifier: bytes, history: bytes) -> None:
        """Insert or replace an identity of ours."""

    def delete_local(self, name: str) -> None:
        """Remove an identity of ours."""

    def attestation(self, identifier: bytes, purpose: str) -> bytes | None:
        """The attestation of a purpose key of ours."""

    def put_attestation(self, identifier: bytes, purpose: str, attestation: bytes) -> None:
        """Insert or replace an attestation."""

    def delete_attestation(self, identifier: bytes, purpose: str) -> None:
        """Remove an attestation."""

    def peer(self, identifier: bytes) -> tuple[bytes, int] | None:
        """The history of a peer, and when it was last met."""

    def put_peer(self, identifier: bytes, history: bytes, met: int) -> None:
        """Insert or replace a peer."""

    def trim_peers(self, most: int) -> None:
        """Remove the peers not met for longest until ``most`` are left."""

    def count_peers(self) -> int:
        """How many peers there are."""

    def close(self) -> None:
        """Let go; may be called twice."""


class MemoryRows:
    """Rows that are gone when the process ends."""

    def __init__(self) -> None:
        self.keys = MemoryKeyStore()
        self._local: dict[str, tuple[bytes, bytes]] = {}
        self._attestations: dict[tuple[bytes, str], bytes] = {}
        self._peers: dict[bytes, tuple[bytes, int]] = {}
        self._nested = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        if self._nested:
            yield
            return
        before = dict(self._local), dict(self._attestations), dict(self._peers)
        keys = self.keys.snapshot()
        self._nested = True
        try:
            yield
        except BaseException:
            self._local, self._attestations, self._peers = before
            self.keys.restore(keys)
            raise
        finally:
            self._nested = False

    def version(self) -> int:
        """Nobody else can write."""
        return 0

    def local(self, name: str) -> bytes | None:
        """The history of our identity of that name."""
        found = self._local.get(name)
        return found[1] if found is not None else None

    def local_by_identifier(self, identifier: bytes) -> bytes | None:
        """The history of our identity with that identifier."""
        return next((history for found, history in self._local.values() if found == identifier), None)

    def all_local(self) -> list[tuple[str, bytes]]:
        """Names and histories of our identities."""
        return [(name, history) for name, (_, history) in sorted(self._local.items())]

    def put_local(self, name: str, identifier: bytes, history: bytes) -> None:
        """Insert or replace an identity of ours."""
        self._local[name] = (identifier, history)

    def delete_local(self, name: str) -> None:
        """Remove an identity of ours."""
        self._local.pop(name, None)

    def attestation(self, identifier: bytes, purpose: str) -> bytes | None:
        """The attestation of a purpose key of ours."""
        return self._attestations.get((identifier, purpose))

    def put_attestation(self, identifier: bytes, purpose: str, attestation: bytes) -> None:
        """Insert or replace an attestation."""
        self._attestations[identifier, purpose] = attestation

    def delete_attestation(self, identifier: bytes, purpose: str) -> None:
        """Remove an attestation."""
        self._attestations.pop((identifier, purpose), None)

    def peer(self, identifier: bytes) -> tuple[bytes, int] | None:
        """The history of a peer, and when it was last met."""
        return self._peers.get(identifier)

    def put_peer(self, identifier: bytes, history: bytes, met: int) -> None:
        """Insert or replace a peer; the dict keeps them in the order they were met."""
        self._peers.pop(identifier, None)
        self._peers[identifier] = (history, met)

    def trim_peers(self, most: int) -> None:
        """Remove the peers not met for longest."""
        while len(self._peers) > most:
            del self._peers[next(iter(self._peers))]

    def count_peers(self) -> int:
        """How many peers there are."""
        return len(self._peers)

    def close(self) -> None:
        """Nothing to let go."""
