"""The one SQLite file of a node: its folder and permissions, transactions, errors.

Several processes may have it open. Writers take the lock at the start of a transaction, so two of
them never wait for each other in a circle; a busy file is waited for. A rollback journal, not a
write-ahead log: it needs no shared memory, and no log keeps a deleted secret until it is folded in.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import sqlite3
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from ockamlite.errors import ClosedError, DamagedStateError, PermissionsError, StateError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Cell: TypeAlias = "int | str | bytes | None"

FILE_NAME: Final = "ockamlite.sqlite3"
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
BUSY_S: Final = 5.0
"""How long to wait for another process; each holds the lock for milliseconds. Everything else waits too."""
_APPLICATION_ID: Final = 0x6F636B6C  # "ockl"
_DAMAGED: Final = frozenset(
    (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA,
     sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FORMAT)
)  # fmt: skip


class Database:
    """An open database file in a folder of its own.

    Args:
        home: the folder; it and the file are made, with narrow permissions, if they are missing.
        schema: the statements that make the tables.
        version: of the schema, stored in the file.

    Raises:
        PermissionsError: others can read or write the folder or file, or we cannot.
        DamagedStateError: the file is not one of ours, or of a newer version.
        StorageError: disk full, read-only, I/O error.
    """

    def __init__(self, home: Path, schema: Sequence[str], version: int) -> None:
        self.path = home / FILE_NAME
        self._lock = threading.RLock()
        self._nested = False
        self._connection: sqlite3.Connection | None = None
        _prepare(home, self.path, lambda path: self._create(path, schema, version))
        with self._translated():
            self._connection = _connect(self.path)
        try:
            # Deleted secrets are overwritten; nothing of them is written to temporary files.
            for pragma in (
                "secure_delete=ON",
                "temp_store=MEMORY",
                "trusted_schema=OFF",
                "cell_size_check=ON",
            ):
                self.query(f"PRAGMA {pragma}")
            self._check_version(version)
        except BaseException:
            self.close()
            raise

    def _create(self, path: Path, schema: Sequence[str], version: int) -> None:
        """Fill a new file; it gets its name only when it is whole."""
        with self._translated():
            connection = _connect(path)
            try:
                connection.execute("BEGIN IMMEDIATE")
                for statement in schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={version}")
                connection.execute("COMMIT")
            finally:
                connection.close()

    def _check_version(self, version: int) -> None:
        found = self._number("user_version")
        if found == 0 and not self.query("SELECT 1 FROM sqlite_master LIMIT 1"):
            # SQLite would take it for a new database, and we would start with another identity.
            raise self._damaged("is empty")
        if self._number("application_id") != _APPLICATION_ID:
            raise self._damaged("is a database of another program")
        if found > version:
            raise DamagedStateError(
                f"{self.path} was written by a newer ockamlite (format {found}, this one knows {version})",
                hint="upgrade ockamlite, or use another OCKAMLITE_HOME",
            )

    def _number(self, pragma: str) -> int:
        value = self.query(f"PRAGMA {pragma}")[0][0]
        if type(value) is not int:
            raise self._damaged("is damaged")
        return value

    def query(self, statement: str, *values: Cell) -> list[tuple[Cell, ...]]:
        """Run one statement; return its rows.

        Raises:
            StateError: it cannot be run.
            ClosedError: the database is closed.
        """
        with self._lock, self._translated():
            if self._connection is None:
                raise ClosedError("the store is closed")
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the statements inside, or none; no other process writes meanwhile. May be nested."""
        with self._lock:
            if self._nested:
                yield
                return
            self.query("BEGIN IMMEDIATE")
            self._nested = True
            try:
                yield
                self.query("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._nested = False

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors (disk full, for one).
        if self._connection is not None and self._connection.in_transaction:
            self.query("ROLLBACK")

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock, self._translated():
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._state_error(error) from error

    def _state_error(self, error: sqlite3.Error) -> StateError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _DAMAGED:
            return self._damaged(f"is damaged ({error})")
        match code:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StorageError(f"{self.path} is held by another process")
            case sqlite3.SQLITE_FULL:
                return StorageError(f"{self.path} cannot grow: the disk is full", hint="free some space")
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                return StorageError(f"{self.path} cannot be written ({error})")
            case _:
                return StorageError(f"{self.path}: {error}")

    def _damaged(self, text: str) -> DamagedStateError:
        quoted = shlex.quote(str(self.path))
        return DamagedStateError(
            f"{self.path} {text}",
            hint=f"restore it from a backup, or start anew with a new identity: mv {quoted} {quoted}.old",
        )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _prepare(home: Path, path: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder and file if they are missing, and check who can read them."""
    try:
        _make_folder(home)
        _check_mode(home, FOLDER_MODE)
        if not path.exists():
            _make_file(path, fill)
        _check_mode(path, FILE_MODE)
    except PermissionError as error:
        raise PermissionsError(
            f"no permission to use {error.filename}", hint="set OCKAMLITE_HOME to a folder of your own"
        ) from error
    except OSError as error:
        raise StorageError(f"{home}: {error.strerror or error}") from error


def _make_folder(home: Path) -> None:
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            continue
        # An odd umask may have taken more away than it should.
        if stat.S_IMODE(folder.stat().st_mode) != FOLDER_MODE:
            folder.chmod(FOLDER_MODE)
    if not home.is_dir():
        raise StorageError(f"{home} is not a folder", hint="set OCKAMLITE_HOME to a folder")


def _make_file(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a whole database under another name, then rename it, unless another process was quicker."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Let go when the folder is closed.
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            return
        made = path.with_suffix(".new")
        made.unlink(missing_ok=True)
        descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) != FILE_MODE:
                os.fchmod(descriptor, FILE_MODE)
        finally:
            os.close(descriptor)
        fill(made)
        made.rename(path)
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_mode(path: Path, wanted: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    hint = f"chmod {wanted:o} {shlex.quote(str(path))}"
    if mode & 0o077:
        raise PermissionsError(f"{path} holds keys, and others may use it (mode {mode:04o})", hint=hint)
    if mode & wanted != wanted:
        raise PermissionsError(f"{path} cannot be used with mode {mode:04o}", hint=hint)
