"""The identity payload of a handshake: order of the checks, their limits, and that nothing is stored."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite import cbor
from ockamlite.errors import DecodeError, RemoteError
from ockamlite.identities.change_history import ChangeHistory, VerifiedHistories
from ockamlite.identities.credential import issue_credential
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.peer import PeerIdentity, remember, verify_handshake_payload, verify_refresh
from ockamlite.identities.purpose_key import attest
from ockamlite.identities.store import MemoryStore
from ockamlite.limits import LIMITS
from ockamlite.vault.keys import KeyKind, PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable

# Any shape at all goes through these.
encode: Callable[[Any], bytes] = cbor.encode
decode: Any = cbor.decode

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "credentials.json").read_text())
CLOCK = VECTORS["clock"]
T0 = 1700000000
LATER = T0 + 157_680_000
STATIC = bytes.fromhex("ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59")
ALICE = VECTORS["alice"]
BAD: tuple[Any, ...] = (0, None, {})
PAYLOAD = bytes.fromhex("83" + ALICE["change_history"] + ALICE["secure_channel_attestation"] + "80")


def nobody(identifier: Any) -> None:
    return None


@pytest.fixture
def attested(signer: Any) -> Any:
    """The attestation of the static key of these tests by an identity with that latest secret."""

    def make(identity: Any, secret: int, **times: Any) -> Any:
        key = PublicKey(KeyKind.X25519, STATIC)
        return attest(
            identity,
            signer(secret),
            key,
            **{"created_at": identity.latest.valid_from, "expires_at": LATER} | times,
        )

    return make


@pytest.fixture
def payload(identity: Any, attested: Any) -> Any:
    """The payload of an identity with these secrets, and these credentials."""

    def make(*secrets: int, credentials: Any = (), **times: Any) -> bytes:
        one = identity(*secrets)
        found = [credential.to_cbor() for credential in credentials]
        parts = [[c.to_cbor() for c in one.changes], attested(one, secrets[-1], **times).to_cbor(), found]
        return encode(parts)

    return make


@pytest.fixture
def credential(identity: Any, signer: Any) -> Any:
    """A credential of Alice by the authority with that secret."""

    def make(authority: int = 0x21, subject: int = 1, expires_at: int = LATER, **attributes: str) -> Any:
        issuer = identity(authority)
        key = signer(authority + 1)
        attestation = attest(issuer, signer(authority), key.public_key, created_at=T0, expires_at=LATER)
        found = {name.encode(): value.encode() for name, value in attributes.items()}
        return issue_credential(
            key, attestation, identity(subject), found, created_at=T0, expires_at=expires_at
        )

    return make


def fault_of(payload: bytes, static: bytes = STATIC, known: Any = nobody, now: int = CLOCK) -> Fault:
    with pytest.raises(IdentityError) as raised:
        verify_handshake_payload(payload, static, now, known=known)
    return raised.value.fault


def test_the_payload_of_a_rust_peer_is_accepted() -> None:
    peer = verify_handshake_payload(PAYLOAD, STATIC, CLOCK, known=nobody)
    assert str(peer.identifier) == ALICE["identifier"]
    assert peer.attestation_expires_at == LATER
    assert peer.credentials == ()
    assert verify_handshake_payload(PAYLOAD + b"more", STATIC, CLOCK, known=nobody) == peer


def test_a_static_key_that_is_not_the_attested_one_is_refused() -> None:
    assert fault_of(PAYLOAD, bytes(32)) is Fault.OTHER_KEY


def test_an_expired_attestation_is_refused_in_the_second_after(payload: Any) -> None:
    verify_handshake_payload(payload(1, expires_at=CLOCK), STATIC, CLOCK, known=nobody)
    assert fault_of(payload(1, expires_at=CLOCK), now=CLOCK + 1) is Fault.EXPIRED


def test_the_attestation_of_another_is_refused(identity: Any, attested: Any) -> None:
    stolen = attested(identity(2), 2).to_cbor()
    assert fault_of(encode([[identity(1).changes[0].to_cbor()], stolen, []])) is Fault.OTHER_SUBJECT


def test_a_credential_key_in_its_place_is_refused(identity: Any, signer: Any) -> None:
    alice = identity(1)
    stolen = attest(alice, signer(1), PublicKey(KeyKind.ED25519, STATIC), created_at=T0, expires_at=LATER)
    assert fault_of(encode([[alice.changes[0].to_cbor()], stolen.to_cbor(), []])) is Fault.OTHER_PURPOSE


def test_an_attestation_by_a_key_rotated_away_is_refused(identity: Any, attested: Any) -> None:
    after = [change.to_cbor() for change in identity(1, 5).changes]
    old = attested(identity(1), 1).to_cbor()
    assert fault_of(encode([after, old, []])) is Fault.NOT_LATEST_CHANGE


def test_a_history_older_than_known_or_against_it_is_refused(payload: Any, identity: Any) -> None:
    assert fault_of(payload(1), known=lambda _: identity(1, 5)) is Fault.OLDER_HISTORY
    assert fault_of(payload(1, 9), known=lambda _: identity(1, 5)) is Fault.CONFLICTING_HISTORY
    peer = verify_handshake_payload(payload(1, 5), STATIC, T0 + 86_400, known=lambda _: identity(1))
    assert peer.identity == identity(1, 5)


def payload_at(base: bytes, position: int, value: Any) -> bytes:
    parts = decode(base)
    parts[position] = value
    return encode(parts)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xa0",
        b"\x80",
        PAYLOAD[:-1],
        *(payload_at(PAYLOAD, at, bad) for at in range(3) for bad in BAD),
    ],
)
def test_a_payload_of_another_shape_is_a_decode_error(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        verify_handshake_payload(payload, STATIC, CLOCK, known=nobody)


def test_every_flipped_bit_is_refused_or_means_nothing() -> None:
    """The last byte counts the credentials, of which there are none."""
    honest = verify_handshake_payload(PAYLOAD, STATIC, CLOCK, known=nobody)
    for position in range(len(PAYLOAD)):
        for bit in range(8):
            flipped = bytearray(PAYLOAD)
            flipped[position] ^= 1 << bit
            try:
                peer = verify_handshake_payload(bytes(flipped), STATIC, CLOCK, known=nobody)
            except RemoteError:
                continue
            assert position in (0, len(PAYLOAD) - 1)
            assert peer == honest


@given(st.binary(max_size=400))
def test_random_bytes_cause_remote_errors_only(data: bytes) -> None:
    with pytest.raises(RemoteError):
        verify_handshake_payload(data, STATIC, CLOCK, known=nobody)


@given(st.integers(0, len(PAYLOAD)), st.binary(max_size=12))
def test_bytes_put_anywhere_cause_remote_errors_only(at: int, put: bytes) -> None:
    try:
        peer = verify_handshake_payload(
            PAYLOAD[:at] + put + PAYLOAD[at + len(put) :], STATIC, CLOCK, known=nobody
        )
    except RemoteError:
        return
    assert str(peer.identifier) == ALICE["identifier"]


# -- W4, W5: what a stranger can make us keep and compute ------------------------------------------


def test_w4_nothing_is_stored_by_verifying_and_only_then_by_remembering(payload: Any) -> None:
    store = MemoryStore()
    peer = verify_handshake_payload(payload(1), STATIC, CLOCK, known=store.known_identity)
    assert store.count_peers() == 0
    remember(store, peer, CLOCK)
    assert store.known_identity(peer.identifier) == peer.identity


def test_w5_more_changes_or_credentials_than_the_limits_are_refused_before_any_signature(
    identity: Any, monkeypatch: Any
) -> None:
    history, attestation, _ = decode(PAYLOAD)
    monkeypatch.setattr(PublicKey, "verifies", None)
    with pytest.raises(DecodeError, match="too many"):
        verify_handshake_payload(
            encode([history, attestation, [0] * (LIMITS.credentials + 1)]), STATIC, CLOCK, known=nobody
        )
    with pytest.raises(DecodeError, match="too long"):
        verify_handshake_payload(
            encode([history * (LIMITS.changes + 1), attestation, []]), STATIC, CLOCK, known=nobody
        )


@pytest.fixture
def checks(monkeypatch: Any) -> list[PublicKey]:
    """Every check of a signature."""
    made: list[PublicKey] = []
    verifies = PublicKey.verifies

    def count(key: PublicKey, signature: Any, digest: Any) -> bool:
        made.append(key)
        return verifies(key, signature, digest)

    monkeypatch.setattr(PublicKey, "verifies", count)
    return made


def test_w5_each_signature_is_checked_once(payload: Any, credential: Any, identity: Any, checks: Any) -> None:
    data = payload(1, 5, credentials=[credential(role="a")])
    authority = identity(0x21)
    checks.clear()
    verify_handshake_payload(data, STATIC, T0 + 86_400, known=nobody, authorities=[authority])
    # Two changes with three signatures, the attestation, the authority's attestation, the credential.
    assert len(checks) == 6


def test_w5_a_history_seen_before_costs_no_check_with_a_cache(payload: Any, checks: Any) -> None:
    data, cache = payload(1, 5), VerifiedHistories()
    verify_handshake_payload(data, STATIC, T0 + 86_400, known=nobody, cache=cache)
    checks.clear()
    verify_handshake_payload(data, STATIC, T0 + 86_400, known=nobody, cache=cache)
    assert len(checks) == 1


def test_w5_a_broken_chain_costs_no_check(history: Any, attested: Any, identity: Any, checks: Any) -> None:
    changes = [change.to_cbor() for change in history(*range(1, 40)).changes]
    attestation = attested(identity(1), 1).to_cbor()
    checks.clear()
    changes[20], changes[21] = changes[21], changes[20]
    assert fault_of(encode([changes, attestation, []])) is Fault.WRONG_PREDECESSOR
    assert checks == []


# -- credentials -----------------------------------------------------------------------------------


def test_credentials_of_an_authority_give_attributes_until_they_expire(
    payload: Any, credential: Any, identity: Any
) -> None:
    authority = identity(0x21)
    data = payload(1, credentials=[credential(role="gateway", expires_at=CLOCK + 5)])
    peer = verify_handshake_payload(data, STATIC, CLOCK, known=nobody, authorities=[authority])
    assert peer.attributes(authority.identifier, CLOCK + 5) == {b"role": b"gateway"}
    assert peer.attributes(authority.identifier, CLOCK + 6) == {}


def test_w19_the_words_of_two_authorities_are_kept_apart(
    payload: Any, credential: Any, identity: Any
) -> None:
    one, two, stranger = identity(0x21), identity(0x31), identity(0x41)
    presented = [
        credential(0x21, role="guest"),
        credential(0x31, role="admin"),
        credential(0x41, role="root"),
    ]
    peer = verify_handshake_payload(
        payload(1, credentials=presented), STATIC, CLOCK, known=nobody, authorities=[one, two]
    )
    assert peer.attributes(one.identifier, CLOCK) == {b"role": b"guest"}
    assert peer.attributes(two.identifier, CLOCK) == {b"role": b"admin"}
    assert peer.attributes(stranger.identifier, CLOCK) == {}


def test_of_several_credentials_of_one_authority_the_longest_counts(
    payload: Any, credential: Any, identity: Any
) -> None:
    presented = [credential(n="1"), credential(n="2", expires_at=LATER - 9)]
    for given_ in (presented, presented[::-1]):
        peer = verify_handshake_payload(
            payload(1, credentials=given_), STATIC, CLOCK, known=nobody, authorities=[identity(0x21)]
        )
        assert peer.attributes(identity(0x21).identifier, CLOCK) == {b"n": b"1"}


def test_a_credential_that_does_not_hold_counts_for_nothing_with_a_warning(
    payload: Any, credential: Any, identity: Any, caplog: Any
) -> None:
    authority = identity(0x21)
    data = payload(1, credentials=[credential(subject=2, role="admin"), credential(role="guest")])
    with caplog.at_level(logging.WARNING):
        peer = verify_handshake_payload(data, STATIC, CLOCK, known=nobody, authorities=[authority])
    assert peer.attributes(authority.identifier, CLOCK) == {b"role": b"guest"}
    (record,) = caplog.records
    assert "somebody else" in record.getMessage()


@pytest.mark.parametrize("malformed", [None, 0, [], [1, 2], {1: 2}, [[b"", [0, [bytes(64)]]], []]])
def test_a_malformed_credential_fails_itself_and_not_the_handshake(
    malformed: Any, payload: Any, identity: Any
) -> None:
    data = payload_at(payload(1), 2, [malformed])
    peer = verify_handshake_payload(data, STATIC, CLOCK, known=nobody, authorities=[identity(0x21)])
    assert peer.credentials == ()


def test_without_an_authority_credentials_are_not_even_read(
    payload: Any, credential: Any, checks: Any
) -> None:
    data = payload(1, credentials=[credential(role="admin")])
    checks.clear()
    peer = verify_handshake_payload(data, STATIC, CLOCK, known=nobody)
    assert peer.credentials == ()
    assert len(checks) == 2


# -- refresh ---------------------------------------------------------------------------------------


@pytest.fixture
def alice(payload: Any) -> PeerIdentity:
    return verify_handshake_payload(payload(1), STATIC, CLOCK, known=nobody)


def test_a_refresh_brings_credentials_and_keeps_those_of_others(
    alice: Any, identity: Any, credential: Any
) -> None:
    one, two = identity(0x21), identity(0x31)
    peer = alice
    for presented in (
        credential(0x21, role="old"),
        credential(0x31, role="two"),
        credential(0x21, role="new"),
    ):
        peer = verify_refresh(
            identity(1).encoded, [presented.encoded], peer, CLOCK, known=nobody, authorities=[one, two]
        )
    assert peer.attributes(one.identifier, CLOCK) == {b"role": b"new"}
    assert peer.attributes(two.identifier, CLOCK) == {b"role": b"two"}
    assert not peer.is_revoked


def test_a_refresh_of_another_or_with_an_older_history_is_refused(alice: Any, identity: Any) -> None:
    def fault(history: bytes, peer: PeerIdentity, known: Any = nobody) -> Fault:
        with pytest.raises(IdentityError) as raised:
            verify_refresh(history, [], peer, CLOCK, known=known)
        return raised.value.fault

    assert fault(identity(2).encoded, alice) is Fault.OTHER_SUBJECT
    assert fault(identity(1).encoded, alice, lambda _: identity(1, 5)) is Fault.OLDER_HISTORY
    newer = verify_refresh(identity(1, 5).encoded, [], alice, CLOCK, known=nobody)
    assert fault(identity(1).encoded, newer) is Fault.OLDER_HISTORY
    assert fault(identity(1, 9).encoded, newer) is Fault.CONFLICTING_HISTORY


def test_w15_a_refresh_tells_that_the_key_of_the_channel_was_revoked(alice: Any, identity: Any) -> None:
    rotated = verify_refresh(identity(1, 5).encoded, [], alice, CLOCK, known=nobody)
    assert not rotated.is_revoked
    revoked = verify_refresh(identity(1, 5, revoke=True).encoded, [], alice, CLOCK, known=nobody)
    assert revoked.is_revoked
    assert revoked.identity == identity(1, 5, revoke=True)


def test_w5_a_refresh_with_more_credentials_than_the_limit_is_refused(alice: Any, identity: Any) -> None:
    with pytest.raises(DecodeError):
        verify_refresh(identity(1).encoded, [b""] * (LIMITS.credentials + 1), alice, CLOCK, known=nobody)


@given(st.binary(max_size=200))
def test_a_refresh_of_random_bytes_causes_remote_errors_only(data: bytes) -> None:
    peer = verify_handshake_payload(PAYLOAD, STATIC, CLOCK, known=nobody)
    with pytest.raises(RemoteError):
        verify_refresh(data, [data], peer, CLOCK, known=nobody, authorities=[peer.identity])
    verify_refresh(
        bytes.fromhex(ALICE["change_history"]), [data], peer, CLOCK, known=nobody, authorities=[peer.identity]
    )


def test_a_payload_kept_as_received_decodes_to_the_same_history(payload: Any) -> None:
    peer = verify_handshake_payload(payload(1), STATIC, CLOCK, known=nobody)
    assert ChangeHistory.decode(peer.identity.encoded).verify() == peer.identity
