"""Private keys in a table of a database, in clear: the permissions of the file guard them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ockamlite.errors import DamagedStateError
from ockamlite.vault.key_store import StoredKey
from ockamlite.vault.keys import KeyKind

if TYPE_CHECKING:
    from ockamlite.vault.database import Database
    from ockamlite.vault.vault import KeyHandle

KEYS_TABLE: Final = "CREATE TABLE key (handle BLOB PRIMARY KEY, kind TEXT NOT NULL, secret BLOB NOT NULL)"


class SqliteKeyStore:
    """The table ``key``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_key(self, handle: KeyHandle, key: StoredKey) -> None:
        """Keep a key."""
        self._database.query(
            "INSERT OR REPLACE INTO key (handle, kind, secret) VALUES (?, ?, ?)",
            handle,
            key.kind.value,
            key.secret,
        )

    def get_key(self, handle: KeyHandle) -> StoredKey | None:
        """The key, or None.

        Raises:
            DamagedStateError: the row is not one.
        """
        found = self._database.query("SELECT kind, secret FROM key WHERE handle = ?", handle)
        if not found:
            return None
        kind, secret = found[0]
        try:
            if type(secret) is bytes:
                return StoredKey(KeyKind(kind), secret)
        except ValueError:
            pass
        raise DamagedStateError(
            f"{self._database.path} is damaged (key {handle.hex()})", hint="restore it from a backup"
        )

    def delete_key(self, handle: KeyHandle) -> None:
        """Forget a key; SQLite overwrites it (``secure_delete``)."""
        self._database.query("DELETE FROM key WHERE handle = ?", handle)
