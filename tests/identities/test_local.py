"""Our own identities over time: what they show, when their purpose keys change, and when they refuse."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite import cbor
from ockamlite.errors import NotFoundError, StateError, UsageError
from ockamlite.identities.change_history import Comparison
from ockamlite.identities.credential import issue_credential
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.local import ATTESTATION_LIFETIME_S, LocalIdentity, create_identity
from ockamlite.identities.peer import verify_handshake_payload
from ockamlite.identities.purpose_key import Purpose, attest
from ockamlite.identities.store import MemoryStore, SqliteStore, Store
from ockamlite.limits import LIMITS
from ockamlite.vault.key_store import MemoryKeyStore
from ockamlite.vault.keys import KeyKind, PublicKey
from ockamlite.vault.software import SoftwareVault
from ockamlite.vault.vault import handle_of

if TYPE_CHECKING:
    from pathlib import Path

decode: Any = cbor.decode
NOW = 1_800_000_000
DAY = 86_400
TEN_YEARS = 315_360_000


@pytest.fixture
def store() -> Store:
    return MemoryStore()


@pytest.fixture
def me(store: Store) -> LocalIdentity:
    return create_identity(store, "me", NOW)


def met(me: LocalIdentity, now: int) -> Any:
    """What a peer makes of our handshake."""
    static = me.secure_channel_key(now)[0].public
    return verify_handshake_payload(me.handshake_payload(now), static, now, known=lambda _: None)


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_a_peer_accepts_what_a_new_identity_shows(kind: str, store: Store) -> None:
    me = create_identity(store, "me", NOW, kind)
    assert met(me, NOW).identity == me.identity
    assert me.identity.latest.valid_from == NOW
    assert me.identity.latest.valid_until == NOW + TEN_YEARS


@pytest.mark.parametrize("kind", ["x25519", "rsa", "", KeyKind.X25519])
def test_an_identity_has_a_key_that_signs(kind: Any, store: Store) -> None:
    with pytest.raises(UsageError):
        create_identity(store, "me", NOW, kind)


def test_w6_no_credential_is_shown_unless_it_is_given(me: LocalIdentity, store: Store) -> None:
    signer, attestation = me.credential_key(NOW)
    credential = issue_credential(signer, attestation, me.identity, {}, created_at=NOW, expires_at=NOW + 9)
    assert decode(me.handshake_payload(NOW))[2] == []
    shown = me.handshake_payload(NOW, [credential])
    assert decode(shown)[2] == [decode(credential.encoded)]
    static = me.secure_channel_key(NOW)[0].public
    peer = verify_handshake_payload(shown, static, NOW, known=lambda _: None, authorities=[me.identity])
    assert len(peer.credentials) == 1
    assert decode(me.handshake_payload(NOW))[2] == []
    most = me.handshake_payload(NOW, [credential] * LIMITS.credentials)
    verify_handshake_payload(most, static, NOW, known=lambda _: None, authorities=[me.identity])
    with pytest.raises(UsageError):
        me.handshake_payload(NOW, [credential] * (LIMITS.credentials + 1))


def test_the_payload_is_made_once_and_our_own_signatures_are_not_checked_again(
    me: LocalIdentity, monkeypatch: Any
) -> None:
    shown, key = me.handshake_payload(NOW), me.secure_channel_key(NOW)
    monkeypatch.setattr(PublicKey, "verifies", None)
    assert me.handshake_payload(NOW + DAY) is shown
    assert me.secure_channel_key(NOW + DAY) == key


def test_the_purpose_key_is_the_same_after_a_restart(me: LocalIdentity, store: Store) -> None:
    shown = me.handshake_payload(NOW)
    assert LocalIdentity.load(store, "me").handshake_payload(NOW + DAY) == shown


def test_an_ephemeral_identity_is_another_each_time() -> None:
    one, other = LocalIdentity.ephemeral(NOW), LocalIdentity.ephemeral(NOW)
    assert one.identifier != other.identifier
    assert met(one, NOW).identifier == one.identifier


def test_an_identity_is_loaded_or_made(store: Store) -> None:
    with pytest.raises(NotFoundError):
        LocalIdentity.load(store)
    made = LocalIdentity.load_or_create(store, now=NOW)
    assert made.name == "default"
    assert LocalIdentity.load_or_create(store, now=NOW + 1).identity == made.identity


# -- W23: time -------------------------------------------------------------------------------------


def test_w23_a_purpose_key_is_renewed_before_it_expires_and_the_old_secret_deleted(
    me: LocalIdentity, store: Store
) -> None:
    old_key, old = me.secure_channel_key(NOW)
    assert old.expires_at == NOW + ATTESTATION_LIFETIME_S
    assert me.secure_channel_key(old.expires_at - 7 * DAY - 1)[1] == old
    _, new = me.secure_channel_key(old.expires_at - 7 * DAY + 1)
    assert new.key != old.key
    assert met(me, old.expires_at).attestation_expires_at == new.expires_at
    assert store.keys.get_key(handle_of(old_key.public)) is None


def test_w23_an_expired_purpose_key_is_replaced(me: LocalIdentity, store: Store) -> None:
    _, old = me.secure_channel_key(NOW)
    later = old.expires_at + 1
    _, new = LocalIdentity.load(store, "me").secure_channel_key(later)
    assert new.created_at == later


def test_w23_a_purpose_key_that_does_not_verify_is_never_replaced_in_silence(
    me: LocalIdentity, store: Store
) -> None:
    _, good = me.secure_channel_key(NOW)
    with pytest.raises(StateError, match="in the future") as raised:
        LocalIdentity.load(store, "me").secure_channel_key(NOW - DAY)
    assert "clock" in raised.value.hint
    forger = create_identity(MemoryStore(), "x", NOW)
    forged = attest(
        me.identity, SoftwareVault(forger._store.keys).signer(handle_of(forger.identity.latest.key.data)),
        good.key, created_at=NOW, expires_at=NOW + DAY,
    )  # fmt: skip
    store.put_attestation(me.identity, forged)
    with pytest.raises(StateError, match="signature"):
        LocalIdentity.load(store, "me").secure_channel_key(NOW)
    assert store.attestation(me.identity, Purpose.SECURE_CHANNEL) == forged


def test_w23_a_clock_that_falls_back_under_way_is_noticed(me: LocalIdentity) -> None:
    me.handshake_payload(NOW)
    me.handshake_payload(NOW - LIMITS.clock_skew_s)
    with pytest.raises(StateError):
        me.handshake_payload(NOW - LIMITS.clock_skew_s - 1)


def test_w23_lifetimes_end_with_the_identity(me: LocalIdentity) -> None:
    end = me.identity.latest.valid_until
    _, last = me.secure_channel_key(end - DAY)
    assert last.expires_at == end
    assert met(me, end).attestation_expires_at == end
    assert me.secure_channel_key(end)[1] == last
    assert me.credential_key(end)[1].expires_at == end
    with pytest.raises(StateError, match="expired") as raised:
        me.secure_channel_key(end + 1)
    assert "rotate me" in raised.value.hint
    me.rotate(end + 1)
    assert met(me, end + 1).identifier == me.identifier


def test_w23_a_clock_before_the_making_of_the_identity_makes_no_keys(me: LocalIdentity) -> None:
    with pytest.raises(StateError, match="clock"):
        me.secure_channel_key(NOW - LIMITS.clock_skew_s - 1)
    with pytest.raises(StateError, match="clock"):
        me.rotate(NOW - LIMITS.clock_skew_s - 1)
    _, slightly = me.secure_channel_key(NOW - LIMITS.clock_skew_s)
    assert slightly.created_at == NOW


# -- rotation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "p256"])
def test_a_rotation_keeps_the_identifier_and_changes_all_keys(
    kind: Any, me: LocalIdentity, store: Store
) -> None:
    before, (old_static, _) = me.identity, me.secure_channel_key(NOW)
    _, old_credentials = me.credential_key(NOW)
    me.rotate(NOW + DAY, kind=kind)
    assert me.identifier == before.identifier
    assert me.identity.compare(before) is Comparison.NEWER
    assert me.identity.latest.key.kind.value == (kind or "ed25519")
    assert not me.identity.latest.revoke_all_purpose_keys
    assert met(me, NOW + DAY).identity == me.identity
    assert LocalIdentity.load(store, "me").identity == me.identity
    assert me.credential_key(NOW + DAY)[1].key != old_credentials.key
    for gone in (before.latest.key.data, old_static.public, old_credentials.key.data):
        assert store.keys.get_key(handle_of(gone)) is None


def test_a_rotation_can_revoke(me: LocalIdentity) -> None:
    me.rotate(NOW, revoke=True)
    assert me.identity.latest.revoke_all_purpose_keys


def test_what_was_attested_before_a_rotation_is_refused_by_who_knows_of_it(me: LocalIdentity) -> None:
    old, static = me.handshake_payload(NOW), me.secure_channel_key(NOW)[0].public
    me.rotate(NOW + 1)
    with pytest.raises(IdentityError) as raised:
        verify_handshake_payload(old, static, NOW + 1, known=lambda _: me.identity)
    assert raised.value.fault is Fault.OLDER_HISTORY


def test_an_identity_is_not_rotated_beyond_what_peers_accept(store: Store, identity: Any) -> None:
    last = LIMITS.changes - 1
    store.create("me", identity(*range(1, last + 1)))
    SoftwareVault(store.keys).import_key(KeyKind.ED25519, bytes([last]) * 32)
    me = LocalIdentity.load(store, "me")
    me.rotate(NOW)
    assert len(met(me, NOW).identity.changes) == LIMITS.changes
    with pytest.raises(UsageError, match="too often"):
        me.rotate(NOW)
    assert met(me, NOW).identity == me.identity


class DeafStore(MemoryStore):
    """Fails when a purpose key is to be stored."""

    is_deaf = False

    def put_attestation(self, identity: Any, attestation: Any) -> None:
        if self.is_deaf:
            raise StateError("disk full")
        super().put_attestation(identity, attestation)


def test_a_rotation_that_cannot_be_stored_changes_nothing() -> None:
    store = DeafStore()
    me = create_identity(store, "me", NOW)
    before, shown = me.identity, me.handshake_payload(NOW)
    store.is_deaf = True
    with pytest.raises(StateError, match="disk full"):
        me.rotate(NOW + 1)
    store.is_deaf = False
    assert me.identity == before == store.show("me")
    assert me.handshake_payload(NOW + 1) == shown
    me.rotate(NOW + 1)
    assert met(me, NOW + 1).identity == me.identity


# -- other processes, other vaults -----------------------------------------------------------------


def test_a_rotation_or_deletion_by_another_process_is_noticed(tmp_path: Path) -> None:
    ours, theirs = SqliteStore(tmp_path / "home"), SqliteStore(tmp_path / "home")
    me = create_identity(ours, "me", NOW)
    me.handshake_payload(NOW)
    LocalIdentity.load(theirs, "me").rotate(NOW + 1)
    assert met(me, NOW + 1).identity == me.identity == theirs.show("me")
    theirs.delete("me")
    with pytest.raises(StateError, match="deleted"):
        me.handshake_payload(NOW + 1)
    ours.close()
    theirs.close()


def test_two_processes_share_a_purpose_key_made_by_either(tmp_path: Path) -> None:
    ours, theirs = SqliteStore(tmp_path / "home"), SqliteStore(tmp_path / "home")
    create_identity(ours, "me", NOW)
    one, other = LocalIdentity.load(ours, "me"), LocalIdentity.load(theirs, "me")
    assert one.handshake_payload(NOW) == other.handshake_payload(NOW)
    ours.close()
    theirs.close()


def test_an_identity_key_may_be_elsewhere_and_offline_while_a_purpose_key_lasts() -> None:
    store, elsewhere = MemoryStore(), SoftwareVault(MemoryKeyStore())
    me = create_identity(store, "me", NOW, "p256", vault=elsewhere)
    assert store.keys.get_key(handle_of(me.identity.latest.key.data)) is None
    _, attestation = me.secure_channel_key(NOW)
    elsewhere.delete(handle_of(me.identity.latest.key.data))
    again = LocalIdentity.load(store, "me", vault=elsewhere)
    assert met(again, NOW + DAY).attestation_expires_at == attestation.expires_at
    with pytest.raises(StateError, match="private key"):
        again.secure_channel_key(attestation.expires_at + 1)


def test_a_rotation_deletes_the_old_key_wherever_it_is() -> None:
    elsewhere = SoftwareVault(MemoryKeyStore())
    me = create_identity(MemoryStore(), "me", NOW, vault=elsewhere)
    old = handle_of(me.identity.latest.key.data)
    me.rotate(NOW + 1)
    with pytest.raises(NotFoundError):
        elsewhere.signer(old)
    assert met(me, NOW + 1).identity == me.identity


def test_a_lost_key_is_reported_and_not_replaced(me: LocalIdentity, store: Store) -> None:
    key, attestation = me.secure_channel_key(NOW)
    store.keys.delete_key(handle_of(key.public))
    with pytest.raises(StateError, match="not here"):
        LocalIdentity.load(store, "me").secure_channel_key(NOW)
    assert store.attestation(me.identity, Purpose.SECURE_CHANNEL) == attestation


def test_neither_repr_nor_log_shows_a_secret(me: LocalIdentity, store: Any, caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        key, attestation = me.secure_channel_key(NOW)
        me.rotate(NOW + 1)
        shown = " ".join(map(repr, (me, me.identity, key, attestation, store, store.keys))) + caplog.text
    for stored in store.keys._keys.values():
        assert stored.secret.hex() not in shown
        assert repr(stored.secret)[2:-1] not in shown
    assert repr(me) == f"<LocalIdentity me {me.identifier}>"
