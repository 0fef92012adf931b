"""The software vault over each of its key stores; handles as the Rust vault makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ockamlite.errors import DamagedStateError, NotFoundError, UsageError, VerificationError
from ockamlite.vault.database import Database
from ockamlite.vault.key_store import KeyStore, MemoryKeyStore, StoredKey
from ockamlite.vault.keys import KeyKind, PublicKey, Signature
from ockamlite.vault.software import SoftwareVault, X25519Key, ephemeral_dh_key
from ockamlite.vault.sqlite_keys import KEYS_TABLE, SqliteKeyStore
from ockamlite.vault.vault import KeyHandle, handle_of

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "identities.json").read_text())
KINDS = {"ed25519_seed": KeyKind.ED25519, "p256_scalar": KeyKind.P256, "x25519": KeyKind.X25519}
DIGEST = bytes(range(32))
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    database = Database(tmp_path / "home", (KEYS_TABLE,), 1)
    yield SqliteKeyStore(database)
    database.close()


@pytest.mark.parametrize("vector", VECTORS["handles"], ids=lambda v: next(iter(v["secret"])))
def test_public_keys_and_handles_are_those_of_the_rust_vault(vector: Any, store: KeyStore) -> None:
    ((name, secret),) = vector["secret"].items()
    vault = SoftwareVault(store)
    handle = vault.import_key(KINDS[name], bytes.fromhex(secret))
    assert handle.hex() == vector["handle"]
    public = (
        vault.dh_key(handle).public if name == "x25519" else vault.signer(handle).public_key.data
    )  # fmt: skip
    assert public.hex() == vector["public"]


@pytest.mark.parametrize("kind", [KeyKind.ED25519, KeyKind.P256])
def test_a_generated_key_signs_and_another_digest_or_key_does_not_fit(kind: KeyKind, store: KeyStore) -> None:
    vault = SoftwareVault(store)
    signer = vault.signer(vault.generate(kind))
    other = vault.signer(vault.generate(kind))
    signature = signer.sign(DIGEST)
    assert signature.kind is kind
    assert signer.public_key.verifies(signature, DIGEST)
    assert not signer.public_key.verifies(signature, bytes(32))
    assert not other.public_key.verifies(signature, DIGEST)


def test_a_signature_of_another_kind_never_holds() -> None:
    vault = SoftwareVault(MemoryKeyStore())
    ed = vault.signer(vault.generate(KeyKind.ED25519))
    p256 = vault.signer(vault.generate(KeyKind.P256))
    assert not ed.public_key.verifies(p256.sign(DIGEST), DIGEST)
    assert not p256.public_key.verifies(ed.sign(DIGEST), DIGEST)
    assert not ed.public_key.verifies(Signature(KeyKind.P256, ed.sign(DIGEST).data), DIGEST)


def test_a_point_off_the_curve_and_a_signature_of_zeros_do_not_hold() -> None:
    zeros = Signature(KeyKind.P256, bytes(64))
    assert not PublicKey(KeyKind.P256, b"\x04" + bytes(64)).verifies(zeros, DIGEST)
    assert not PublicKey(KeyKind.P256, bytes(65)).verifies(zeros, DIGEST)
    assert not PublicKey(KeyKind.X25519, bytes(32)).verifies(zeros, DIGEST)


def test_two_generated_keys_agree_on_a_secret(store: KeyStore) -> None:
    vault = SoftwareVault(store)
    mine = vault.dh_key(vault.generate(KeyKind.X25519))
    theirs = ephemeral_dh_key()
    assert mine.exchange(theirs.public) == theirs.exchange(mine.public)
    assert ephemeral_dh_key().public != theirs.public


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), bytes(31), bytes(33)])
def test_a_low_order_or_malformed_key_of_a_peer_is_refused(public: bytes) -> None:
    with pytest.raises(VerificationError):
        X25519Key(bytes([2]) * 32).exchange(public)


def test_a_deleted_key_is_gone_and_may_be_deleted_twice(store: KeyStore) -> None:
    vault = SoftwareVault(store)
    handle = vault.generate(KeyKind.ED25519)
    vault.delete(handle)
    vault.delete(handle)
    with pytest.raises(NotFoundError):
        vault.signer(handle)


def test_a_key_is_not_used_for_what_it_is_not(store: KeyStore) -> None:
    vault = SoftwareVault(store)
    with pytest.raises(NotFoundError, match="does not sign"):
        vault.signer(vault.generate(KeyKind.X25519))
    with pytest.raises(NotFoundError, match="not an X25519 key"):
        vault.dh_key(vault.generate(KeyKind.ED25519))


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        (KeyKind.ED25519, bytes(31)),
        (KeyKind.X25519, bytes(33)),
        (KeyKind.P256, bytes(32)),
        (KeyKind.P256, P256_ORDER.to_bytes(32, "big")),
    ],
)
def test_what_is_no_private_key_is_not_imported_nor_quoted(kind: KeyKind, secret: bytes) -> None:
    with pytest.raises(UsageError) as raised:
        SoftwareVault(MemoryKeyStore()).import_key(kind, secret)
    assert secret.hex() not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("secret", [bytes([9]) * 32, bytes(31)])
def test_a_stored_key_that_is_another_than_its_handle_says_is_damage(secret: bytes, store: KeyStore) -> None:
    handle = handle_of(b"some public key")
    store.put_key(handle, StoredKey(KeyKind.ED25519, secret))
    with pytest.raises(DamagedStateError) as raised:
        SoftwareVault(store).signer(handle)
    assert raised.value.hint
    assert secret.hex() not in str(raised.value)


def test_a_row_that_is_no_key_is_damage(tmp_path: Path) -> None:
    database = Database(tmp_path / "home", (KEYS_TABLE,), 1)
    database.query("INSERT INTO key VALUES (?, ?, ?)", b"h", "rot13", b"")
    database.query("INSERT INTO key VALUES (?, ?, ?)", b"i", "ed25519", "text")
    for handle in (b"h", b"i"):
        with pytest.raises(DamagedStateError):
            SqliteKeyStore(database).get_key(KeyHandle(handle))
    database.close()


def test_no_repr_shows_a_secret() -> None:
    secret = bytes([7]) * 32
    vault = SoftwareVault(MemoryKeyStore())
    things = [
        vault,
        StoredKey(KeyKind.P256, secret),
        vault.dh_key(vault.import_key(KeyKind.X25519, secret)),
        vault.signer(vault.import_key(KeyKind.P256, secret)),
        vault.signer(vault.import_key(KeyKind.ED25519, secret)),
    ]
    for thing in things:
        for shown in (repr(thing), str(thing)):
            assert secret.hex() not in shown
            assert "\\x07\\x07" not in shown


@pytest.mark.parametrize("kind", KeyKind)
def test_a_public_key_has_the_length_of_its_kind(kind: KeyKind) -> None:
    PublicKey(kind, bytes(kind.public_bytes))
    with pytest.raises(UsageError):
        PublicKey(kind, bytes(kind.public_bytes + 1))


def test_a_signature_has_64_bytes_and_a_kind_that_signs() -> None:
    with pytest.raises(UsageError):
        Signature(KeyKind.ED25519, bytes(63))
    with pytest.raises(UsageError):
        Signature(KeyKind.X25519, bytes(64))
