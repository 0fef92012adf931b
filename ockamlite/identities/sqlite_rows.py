"""The rows of a store in SQLite. Imported only by who keeps its state on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ockamlite.errors import DamagedStateError
from ockamlite.vault.database import Database
from ockamlite.vault.sqlite_keys import KEYS_TABLE, SqliteKeyStore

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

SCHEMA_VERSION: Final = 1
_SCHEMA: Final = (
    KEYS_TABLE,
    "CREATE TABLE local_identity"
    " (name TEXT PRIMARY KEY, identifier BLOB UNIQUE NOT NULL, history BLOB NOT NULL)",
    "CREATE TABLE attestation"
    " (identifier BLOB NOT NULL, purpose TEXT NOT NULL, attestation BLOB NOT NULL,"
    " PRIMARY KEY (identifier, purpose))",
    "CREATE TABLE peer (identifier BLOB PRIMARY KEY, history BLOB NOT NULL, met INTEGER NOT NULL)",
    "CREATE INDEX peer_met ON peer (met)",
)


class SqliteRows:
    """Rows in one file of the folder ``home``."""

    def __init__(self, home: Path) -> None:
        self._database = Database(home, _SCHEMA, SCHEMA_VERSION)
        self.keys = SqliteKeyStore(self._database)

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, and alone."""
        return self._database.transaction()

    def version(self) -> int:
        """Changes when another connection has written."""
        value = self._database.query("PRAGMA data_version")[0][0]
        return value if type(value) is int else 0

    def _bytes(self, statement: str, *values: str | bytes) -> bytes | None:
        found = self._database.query(statement, *values)
        if not found:
            return None
        value = found[0][0]
        if type(value) is not bytes:
            raise self._damaged()
        return value

    def _damaged(self) -> DamagedStateError:
        return DamagedStateError(f"{self._database.path} is damaged", hint="restore it from a backup")

    def local(self, name: str) -> bytes | None:
        """The history of our identity of that name."""
        return self._bytes("SELECT history FROM local_identity WHERE name = ?", name)

    def local_by_identifier(self, identifier: bytes) -> bytes | None:
        """The history of our identity with that identifier."""
        return self._bytes("SELECT history FROM local_identity WHERE identifier = ?", identifier)

    def all_local(self) -> list[tuple[str, bytes]]:
        """Names and histories of our identities."""
        rows = []
        for name, history in self._database.query("SELECT name, history FROM local_identity ORDER BY name"):
            if type(name) is not str or type(history) is not bytes:
                raise self._damaged()
            rows.append((name, history))
        return rows

    def put_local(self, name: str, identifier: bytes, history: bytes) -> None:
        """Insert or replace an identity of ours."""
        self._database.query(
            "INSERT OR REPLACE INTO local_identity (name, identifier, history) VALUES (?, ?, ?)",
            name,
            identifier,
            history,
        )

    def delete_local(self, name: str) -> None:
        """Remove an identity of ours."""
        self._database.query("DELETE FROM local_identity WHERE name = ?", name)

    def attestation(self, identifier: bytes, purpose: str) -> bytes | None:
        """The attestation of a purpose key of ours."""
        return self._bytes(
            "SELECT attestation FROM attestation WHERE identifier = ? AND purpose = ?", identifier, purpose
        )

    def put_attestation(self, identifier: bytes, purpose: str, attestation: bytes) -> None:
        """Insert or replace an attestation."""
        self._database.query(
            "INSERT OR REPLACE INTO attestation (identifier, purpose, attestation) VALUES (?, ?, ?)",
            identifier,
            purpose,
            attestation,
        )

    def delete_attestation(self, identifier: bytes, purpose: str) -> None:
        """Remove an attestation."""
        self._database.query(
            "DELETE FROM attestation WHERE identifier = ? AND purpose = ?", identifier, purpose
        )

    def peer(self, identifier: bytes) -> tuple[bytes, int] | None:
        """The history of a peer, and when it was last met."""
        found = self._database.query("SELECT history, met FROM peer WHERE identifier = ?", identifier)
        if not found:
            return None
        history, met = found[0]
        if type(history) is not bytes or type(met) is not int:
            raise self._damaged()
        return history, met

    def put_peer(self, identifier: bytes, history: bytes, met: int) -> None:
        """Insert or replace a peer."""
        self._database.query(
            "INSERT OR REPLACE INTO peer (identifier, history, met) VALUES (?, ?, ?)",
            identifier,
            history,
            met,
        )

    def trim_peers(self, most: int) -> None:
        """Remove the peers not met for longest."""
        self._database.query(
            "DELETE FROM peer WHERE identifier IN (SELECT identifier FROM peer ORDER BY met, rowid"
            " LIMIT max(0, (SELECT count(*) FROM peer) - ?))",
            most,
        )

    def count_peers(self) -> int:
        """How many peers there are."""
        value = self._database.query("SELECT count(*) FROM peer")[0][0]
        return value if type(value) is int else 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()
