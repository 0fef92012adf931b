"""The database file: made narrowly, refused when wide, whole after a crash, shared by processes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ockamlite.errors import ClosedError, DamagedStateError, PermissionsError, StorageError
from ockamlite.vault.database import FILE_NAME, Database

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = ("CREATE TABLE thing (name TEXT PRIMARY KEY, body BLOB)",)


def open_database(home: Path, version: int = 1) -> Database:
    return Database(home, SCHEMA, version)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ockamlite"


@pytest.fixture
def used(home: Path) -> Path:
    database = open_database(home)
    database.query("INSERT INTO thing VALUES ('kept', ?)", b"1")
    database.close()
    return home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(database: Database) -> list[object]:
    return [row[0] for row in database.query("SELECT name FROM thing ORDER BY name")]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_folder_and_file_are_made_for_the_owner_alone(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        open_database(home).close()
    finally:
        os.umask(before)
    assert mode(home) == mode(home.parent) == 0o700
    assert mode(home / FILE_NAME) == 0o600


@pytest.mark.parametrize("wrong", [0o755, 0o750, 0o710, 0o701, 0o702])
def test_a_folder_open_to_others_is_refused_with_the_command_to_run(used: Path, wrong: int) -> None:
    used.chmod(wrong)
    with pytest.raises(PermissionsError) as raised:
        open_database(used)
    assert raised.value.hint == f"chmod 700 {used}"
    subprocess.run(raised.value.hint, shell=True, check=True)
    open_database(used).close()


@pytest.mark.parametrize("wrong", [0o644, 0o640, 0o604, 0o620])
def test_a_file_open_to_others_is_refused_with_the_command_to_run(used: Path, wrong: int) -> None:
    (used / FILE_NAME).chmod(wrong)
    with pytest.raises(PermissionsError) as raised:
        open_database(used)
    assert raised.value.hint == f"chmod 600 {used / FILE_NAME}"
    subprocess.run(raised.value.hint, shell=True, check=True)
    open_database(used).close()


@pytest.mark.parametrize(
    ("name", "wrong"), [(FILE_NAME, 0o400), (FILE_NAME, 0o000), ("", 0o500), ("", 0o600)]
)
def test_permissions_too_narrow_to_work_with_are_refused(used: Path, name: str, wrong: int) -> None:
    path = used / name
    before = mode(path)
    path.chmod(wrong)
    try:
        with pytest.raises(PermissionsError):
            open_database(used)
    finally:
        path.chmod(before)


def test_the_command_to_run_survives_a_path_with_spaces(tmp_path: Path) -> None:
    home = tmp_path / "my state; rm -r"
    open_database(home).close()
    home.chmod(0o755)
    with pytest.raises(PermissionsError) as raised:
        open_database(home)
    subprocess.run(raised.value.hint, shell=True, check=True)
    assert mode(home) == 0o700


def test_the_journal_of_a_transaction_is_for_the_owner_alone(used: Path) -> None:
    database = open_database(used)
    with database.transaction():
        database.query("INSERT INTO thing VALUES ('new', NULL)")
        beside = [path for path in used.iterdir() if path.name != FILE_NAME]
        assert beside
        assert all(mode(path) == 0o600 for path in beside)
    database.close()
    assert [path.name for path in used.iterdir()] == [FILE_NAME]


def test_what_was_deleted_is_overwritten_in_the_file(used: Path) -> None:
    secret = b"a secret that nobody should find"
    database = open_database(used)
    database.query("INSERT INTO thing VALUES ('key', ?)", secret)
    assert secret in (used / FILE_NAME).read_bytes()
    database.query("DELETE FROM thing WHERE name = 'key'")
    database.close()
    assert secret not in (used / FILE_NAME).read_bytes()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to have a header" * 40, b"x"])
def test_a_file_that_is_no_database_is_damage_with_a_way_out(used: Path, content: bytes) -> None:
    (used / FILE_NAME).write_bytes(content)
    with pytest.raises(DamagedStateError) as raised:
        open_database(used)
    assert "backup" in raised.value.hint
    subprocess.run(raised.value.hint.partition("new identity: ")[2], shell=True, check=True)
    open_database(used).close()


def test_a_file_spoiled_behind_its_header_is_damage(used: Path) -> None:
    whole = (used / FILE_NAME).read_bytes()
    (used / FILE_NAME).write_bytes(whole[:100] + bytes(len(whole) - 100))
    with pytest.raises(DamagedStateError):
        names(open_database(used))


def test_a_file_without_its_tables_is_damage(used: Path) -> None:
    database = open_database(used)
    database.query("DROP TABLE thing")
    with pytest.raises(DamagedStateError):
        names(database)
    database.close()


def test_a_database_of_another_program_is_left_alone(home: Path) -> None:
    open_database(home).close()
    (home / FILE_NAME).write_bytes(b"")
    other = sqlite3.connect(home / FILE_NAME)
    other.execute("CREATE TABLE bookmarks (url)")
    other.commit()
    before = (home / FILE_NAME).read_bytes()
    with pytest.raises(DamagedStateError, match="another program"):
        open_database(home)
    other.execute("PRAGMA user_version=1")
    with pytest.raises(DamagedStateError, match="another program"):
        open_database(home)
    other.execute("PRAGMA user_version=0")
    other.close()
    assert len((home / FILE_NAME).read_bytes()) == len(before)


def test_a_file_of_a_newer_version_is_refused_and_not_touched(used: Path) -> None:
    open_database(used).close()
    newer = open_database(used)
    newer.query("PRAGMA user_version=2")
    newer.close()
    with pytest.raises(DamagedStateError, match="newer") as raised:
        open_database(used)
    assert "upgrade" in raised.value.hint
    open_database(used, version=2).close()


@pytest.mark.parametrize("left", [0, 1, 99])
def test_a_file_that_lost_its_content_is_damage_and_not_a_new_start(used: Path, left: int) -> None:
    (used / FILE_NAME).write_bytes((used / FILE_NAME).read_bytes()[:left])
    with pytest.raises(DamagedStateError):
        open_database(used)


def test_an_emptied_file_is_called_empty(used: Path) -> None:
    (used / FILE_NAME).write_bytes(b"")
    with pytest.raises(DamagedStateError, match="empty"):
        open_database(used)


def test_the_file_is_made_by_one_process_at_a_time(home: Path) -> None:
    home.mkdir(parents=True, mode=0o700)
    done = threading.Event()
    folder = os.open(home, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)

    def make() -> None:
        open_database(home).close()
        done.set()

    thread = threading.Thread(target=make)
    thread.start()
    assert not done.wait(0.05)
    assert list(home.iterdir()) == []
    os.close(folder)
    thread.join(10)
    assert done.is_set()


def test_a_new_file_appears_only_when_it_is_whole(home: Path) -> None:
    with pytest.raises(DamagedStateError):
        Database(home, (*SCHEMA, "not SQL"), 1)
    assert not (home / FILE_NAME).exists()
    open_database(home).close()
    assert [path.name for path in home.iterdir()] == [FILE_NAME]


def test_a_full_disk_is_a_storage_error_and_leaves_everything_as_it_was(used: Path) -> None:
    database = open_database(used)
    pages = database.query("PRAGMA page_count")[0][0]
    database.query(f"PRAGMA max_page_count={pages!r}")

    def write() -> None:
        with database.transaction():
            database.query("INSERT INTO thing VALUES ('small', NULL)")
            database.query("INSERT INTO thing VALUES ('big', ?)", bytes(100_000))

    with pytest.raises(StorageError, match="full"):
        write()
    assert names(database) == ["kept"]
    database.query("INSERT INTO thing VALUES ('small', NULL)")
    database.close()


def test_a_read_only_file_is_a_storage_error(used: Path) -> None:
    database = open_database(used)
    database.query("PRAGMA query_only=ON")
    with pytest.raises(StorageError, match="cannot be written"):
        database.query("INSERT INTO thing VALUES ('new', NULL)")
    assert names(database) == ["kept"]
    database.close()


def test_a_home_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        open_database(tmp_path / "file")
    with pytest.raises(StorageError):
        open_database(tmp_path / "file" / "below")


def test_a_failed_transaction_changes_nothing_nested_or_not(used: Path) -> None:
    database = open_database(used)

    def fail() -> None:
        with database.transaction():
            database.query("INSERT INTO thing VALUES ('outer', NULL)")
            with database.transaction():
                database.query("INSERT INTO thing VALUES ('inner', NULL)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(database) == ["kept"]
    with database.transaction(), database.transaction():
        database.query("INSERT INTO thing VALUES ('both', NULL)")
    assert names(database) == ["both", "kept"]
    database.close()


def test_a_process_that_dies_within_a_transaction_leaves_everything_as_it_was(used: Path) -> None:
    script = """if True:
        import os, sys
        from pathlib import Path
        from ockamlite.vault.database import Database
        database = Database(Path(sys.argv[1]), (), 1)
        database.query("PRAGMA cache_size=1")
        with database.transaction():
            database.query("DELETE FROM thing")
            for number in range(300):
                database.query("INSERT INTO thing VALUES (?, ?)", str(number), bytes(1000))
            os._exit(7)
    """
    assert subprocess.run([sys.executable, "-c", script, str(used)]).returncode == 7
    assert len(list(used.iterdir())) == 2
    database = open_database(used)
    assert names(database) == ["kept"]
    database.close()


def test_a_writer_waits_for_another_one(used: Path) -> None:
    first, second = open_database(used), open_database(used)
    done = threading.Event()

    def write() -> None:
        with second.transaction():
            second.query("INSERT INTO thing VALUES ('second', NULL)")
        done.set()

    thread = threading.Thread(target=write)
    with first.transaction():
        first.query("INSERT INTO thing VALUES ('first', NULL)")
        thread.start()
        assert not done.wait(0.05)
    thread.join(10)
    assert names(first) == ["first", "kept", "second"]
    first.close()
    second.close()


def test_a_file_held_for_too_long_is_a_storage_error(used: Path) -> None:
    first, second = open_database(used), open_database(used)
    second.query("PRAGMA busy_timeout=1")
    with first.transaction(), pytest.raises(StorageError, match="another process"), second.transaction():
        pass
    first.close()
    second.close()


def test_a_closed_database_says_so(used: Path) -> None:
    database = open_database(used)
    database.close()
    database.close()
    with pytest.raises(ClosedError):
        names(database)
