"""One contract for both stores: our identities, the peers we met, and that a failure changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import (
    AlreadyExistsError,
    ClosedError,
    DamagedStateError,
    NotFoundError,
    PermissionsError,
    StateError,
    StorageError,
    UsageError,
)
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.local import LocalIdentity, create_identity
from ockamlite.identities.purpose_key import Purpose
from ockamlite.identities.store import MemoryStore, SqliteStore, Store, default_home
from ockamlite.vault.database import FILE_NAME
from ockamlite.vault.keys import KeyKind
from ockamlite.vault.software import SoftwareVault
from ockamlite.vault.vault import handle_of

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_000
HOUR = 3600


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made: list[Store] = []

    def make(**options: int) -> Store:
        if request.param == "memory":
            made.append(MemoryStore(**options))
        else:
            made.append(SqliteStore(tmp_path / f"home{len(made)}", **options))
        return made[-1]

    yield make
    for store in made:
        store.close()
        store.close()


@pytest.fixture
def store(make_store: Callable[[], Store]) -> Store:
    return make_store()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


# -- our own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_an_identity_is_created_shown_listed_and_deleted(kind: str, store: Store) -> None:
    made = create_identity(store, "pi", NOW, kind)
    assert made.identity.latest.key.kind is KeyKind(kind)
    assert store.show("pi") == made.identity
    other = create_identity(store, "another", NOW)
    assert store.list() == (("another", other.identity), ("pi", made.identity))
    store.delete("pi")
    assert store.list() == (("another", other.identity),)
    with pytest.raises(NotFoundError, match="'pi'") as raised:
        store.show("pi")
    assert raised.value.hint


def test_a_name_is_given_once(store: Store) -> None:
    first = create_identity(store, "pi", NOW)
    with pytest.raises(AlreadyExistsError, match="'pi'"):
        create_identity(store, "pi", NOW)
    with pytest.raises(AlreadyExistsError, match="another name"):
        store.create("other", first.identity)
    assert store.list() == (("pi", first.identity),)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 65, "a/b", "\x1b[31m"])
def test_what_cannot_be_printed_on_a_line_of_its_own_is_no_name(name: str, store: Store) -> None:
    with pytest.raises(UsageError):
        create_identity(store, name, NOW)
    assert store.list() == ()


def test_an_identity_that_is_not_there_is_neither_rotated_nor_deleted(store: Store, identity: Any) -> None:
    with pytest.raises(NotFoundError):
        store.delete("nobody")
    with pytest.raises(NotFoundError):
        store.rotate("nobody", identity(1, 5))


def test_only_a_continuation_takes_the_place_of_a_history(store: Store, identity: Any) -> None:
    store.create("alice", identity(1, 5))
    for wrong in (identity(1), identity(1, 5), identity(1, 9, 5), identity(2, 5, 9)):
        with pytest.raises(UsageError):
            store.rotate("alice", wrong)
    store.rotate("alice", identity(1, 5, 9))
    assert store.show("alice") == identity(1, 5, 9)


def test_a_rotation_deletes_the_key_it_replaces(store: Store, identity: Any) -> None:
    vault = SoftwareVault(store.keys)
    old, new = (vault.import_key(KeyKind.ED25519, bytes([secret]) * 32) for secret in (1, 5))
    store.create("alice", identity(1))
    store.rotate("alice", identity(1, 5))
    assert store.keys.get_key(old) is None
    assert store.keys.get_key(new) is not None


def test_deleting_takes_every_key_along(store: Store) -> None:
    made = create_identity(store, "pi", NOW)
    _, channel = made.secure_channel_key(NOW)
    _, credentials = made.credential_key(NOW)
    handles = [handle_of(key.data) for key in (made.identity.latest.key, channel.key, credentials.key)]
    assert all(store.keys.get_key(handle) is not None for handle in handles)
    store.delete("pi")
    assert all(store.keys.get_key(handle) is None for handle in handles)
    assert all(store.attestation(made.identity, purpose) is None for purpose in Purpose)


def test_a_failed_transaction_changes_nothing(store: Store, identity: Any) -> None:
    kept = create_identity(store, "kept", NOW)
    key = handle_of(kept.identity.latest.key.data)

    def fail() -> None:
        with store.transaction():
            create_identity(store, "lost", NOW)
            store.remember(identity(1), NOW)
            store.delete("kept")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.list() == (("kept", kept.identity),)
    assert store.keys.get_key(key) is not None
    assert store.count_peers() == 0


# -- peers -----------------------------------------------------------------------------------------


def test_a_peer_is_remembered_with_its_newest_history(store: Store, identity: Any) -> None:
    one = identity(1).identifier
    assert store.known_identity(one) is None
    for met in (identity(1), identity(1), identity(1, 5), identity(1, 5, 9)):
        store.remember(met, NOW)
        assert store.known_identity(one) == met
    assert store.count_peers() == 1


def test_an_older_or_contradicting_history_is_refused_and_the_known_one_kept(
    store: Store, identity: Any
) -> None:
    store.remember(identity(1, 5), NOW)
    for wrong, fault in ((identity(1), Fault.OLDER_HISTORY), (identity(1, 9), Fault.CONFLICTING_HISTORY)):
        with pytest.raises(IdentityError) as raised:
            store.remember(wrong, NOW + 2 * HOUR)
        assert raised.value.fault is fault
    assert store.known_identity(identity(1).identifier) == identity(1, 5)


def test_w4_the_peer_not_met_for_longest_is_forgotten_first_and_our_own_never(
    make_store: Any, identity: Any
) -> None:
    store = make_store(most_peers=3)
    own = create_identity(store, "own", NOW)
    people = [identity(secret) for secret in range(1, 6)]
    for step, one in enumerate(people[:3]):
        store.remember(one, NOW + step)
    store.remember(people[0], NOW + 2 * HOUR)
    store.remember(people[3], NOW + 2 * HOUR + 1)
    store.remember(people[4], NOW + 2 * HOUR + 2)
    assert store.count_peers() == 3
    assert [store.known_identity(one.identifier) is not None for one in people] == [
        True,
        False,
        False,
        True,
        True,
    ]
    assert store.known_identity(own.identifier) == own.identity
    assert store.list() == (("own", own.identity),)


def test_meeting_a_peer_again_soon_writes_nothing(home: Path, identity: Any) -> None:
    store, watcher = SqliteStore(home), SqliteStore(home)
    store.remember(identity(1), NOW)
    before = watcher.version()
    store.remember(identity(1), NOW + HOUR - 1)
    assert watcher.version() == before
    store.remember(identity(1), NOW + HOUR)
    assert watcher.version() != before
    store.close()
    watcher.close()


def test_our_own_identity_presented_by_a_peer_is_measured_by_what_we_hold(
    store: Store, identity: Any
) -> None:
    store.create("alice", identity(1, 5))
    store.remember(identity(1, 5), NOW)
    with pytest.raises(IdentityError):
        store.remember(identity(1), NOW)
    assert store.count_peers() == 0
    assert store.known_identity(identity(1).identifier) == identity(1, 5)


# -- on disk ---------------------------------------------------------------------------------------


def test_everything_is_there_again_when_the_store_is_opened_anew(home: Path, identity: Any) -> None:
    store = SqliteStore(home)
    made = create_identity(store, "pi", NOW)
    shown = made.handshake_payload(NOW)
    store.remember(identity(1), NOW)
    store.close()
    store = SqliteStore(str(home))
    assert store.show("pi") == made.identity
    assert store.known_identity(identity(1).identifier) == identity(1)
    assert LocalIdentity.load(store, "pi").handshake_payload(NOW) == shown
    store.close()


def test_a_closed_store_says_so(home: Path) -> None:
    store = SqliteStore(home)
    store.close()
    with pytest.raises(ClosedError):
        store.list()


def test_two_processes_that_create_the_default_identity_end_with_the_same_one(home: Path) -> None:
    script = f"""if True:
        import sys
        from pathlib import Path
        from ockamlite.identities.local import LocalIdentity
        from ockamlite.identities.store import SqliteStore
        sys.stdin.read(1)
        me = LocalIdentity.load_or_create(SqliteStore(Path(sys.argv[1])), now={NOW})
        print(me.identifier, me.handshake_payload({NOW}).hex())
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    answers = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(answers) == 1
    store = SqliteStore(home)
    assert len(store.list()) == 1
    store.close()


def test_a_node_that_keeps_nothing_loads_no_sqlite() -> None:
    script = f"""if True:
        import sys
        from ockamlite.identities.local import LocalIdentity
        LocalIdentity.ephemeral({NOW}).handshake_payload({NOW})
        sys.exit("sqlite3" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_folder_permissions_are_checked_at_every_opening(home: Path) -> None:
    SqliteStore(home).close()
    home.chmod(0o755)
    with pytest.raises(PermissionsError) as raised:
        SqliteStore(home)
    assert raised.value.hint == f"chmod 700 {home}"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE local_identity SET history = x'80'",
        "UPDATE local_identity SET history = substr(history, 1, 100)",
        "UPDATE local_identity SET history = 'text'",
        "DROP TABLE local_identity",
    ],
)
def test_a_damaged_identity_is_reported_as_damage_with_a_hint(statement: str, home: Path) -> None:
    store = SqliteStore(home)
    create_identity(store, "pi", NOW)
    run(store, statement)
    with pytest.raises(DamagedStateError) as raised:
        store.list()
    assert "backup" in raised.value.hint
    store.close()


def run(store: Any, statement: str) -> Any:
    return store._rows._database.query(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE attestation SET attestation = x'00'",
        "UPDATE attestation SET attestation = 5",
        "DELETE FROM key",
    ],
)
def test_a_damaged_purpose_key_is_reported_and_not_replaced(statement: str, home: Path) -> None:
    store = SqliteStore(home)
    create_identity(store, "pi", NOW).secure_channel_key(NOW)
    run(store, statement)
    with pytest.raises(StateError) as raised:
        LocalIdentity.load(store, "pi").secure_channel_key(NOW)
    assert "backup" in raised.value.hint
    store.close()


@pytest.mark.parametrize("statement", ["UPDATE peer SET history = x'80'", "UPDATE peer SET met = 'x'"])
def test_a_damaged_peer_is_reported(statement: str, home: Path, identity: Any) -> None:
    store = SqliteStore(home)
    store.remember(identity(1), NOW)
    run(store, statement)
    with pytest.raises(DamagedStateError):
        store.known_identity(identity(1).identifier)
    store.close()


def test_a_full_disk_while_creating_leaves_no_half_identity(home: Path) -> None:
    store = SqliteStore(home)
    pages = run(store, "PRAGMA page_count")[0][0]
    run(store, f"PRAGMA max_page_count={pages}")

    def create_many() -> None:
        for number in range(1000):
            create_identity(store, f"n{number}", NOW)

    with pytest.raises(StorageError, match="full"):
        create_many()
    made = len(store.list())
    assert made
    assert run(store, "SELECT count(*) FROM key") == [(made,)]
    store.close()


# -- where it is -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OCKAMLITE_HOME": "/a", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"OCKAMLITE_HOME": "", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/b/ockamlite"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/c"}, "/c/.local/state/ockamlite"),
        ({"XDG_STATE_HOME": "", "HOME": "/c"}, "/c/.local/state/ockamlite"),
        ({"HOME": "/c"}, "/c/.local/state/ockamlite"),
    ],
)
def test_the_state_folder_is_where_the_environment_says(environ: dict[str, str], expected: str) -> None:
    assert default_home(environ) == Path(expected)


def test_a_relative_home_does_not_move_with_the_working_folder() -> None:
    assert default_home({"OCKAMLITE_HOME": "state"}) == Path.cwd() / "state"


def test_without_any_word_the_home_of_the_user_is_taken() -> None:
    assert default_home({}) == Path.home() / ".local/state/ockamlite"


def test_the_file_holds_the_keys_in_one_place(home: Path) -> None:
    store = SqliteStore(home)
    create_identity(store, "pi", NOW)
    assert [path.name for path in home.iterdir()] == [FILE_NAME]
    store.close()
