"""Attestations: those that Rust made, exact bytes both ways, every rule broken alone and to the second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite import cbor
from ockamlite.errors import DecodeError, RemoteError
from ockamlite.identities import fields
from ockamlite.identities.change_history import ChangeHistory
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.fields import DataType
from ockamlite.identities.purpose_key import Purpose, PurposeKeyAttestation, attest
from ockamlite.vault.keys import KeyKind, PublicKey
from ockamlite.vault.primitives import sha256

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "attestations.json").read_text())
CASES = {case["name"]: case for case in VECTORS["cases"]}
CLOCK = VECTORS["clock"]
T0 = 1700000000
FIVE_YEARS = 157_680_000
FAULTS = {
    "bad: expired a second ago": Fault.EXPIRED,
    "bad: created 61 s ahead": Fault.CREATED_AHEAD,
    "bad: outlives the identity": Fault.OUTLIVES_ISSUER,
    "bad: older than the identity": Fault.OLDER_THAN_ISSUER,
    "bad: another subject expected": Fault.OTHER_SUBJECT,
    "bad: subject without known history": Fault.OTHER_SUBJECT,
    "bad: not the latest change": Fault.NOT_LATEST_CHANGE,
    "bad: version 2": Fault.VERSION,
    "bad: data type 3": Fault.DATA_TYPE,
    "bad: signature flipped": Fault.SIGNATURE,
    "bad: signed by another key": Fault.SIGNATURE,
}
ATTESTATION = bytes.fromhex(CASES["secure channel key"]["attestation"])
X25519 = PublicKey(KeyKind.X25519, bytes([0x42]) * 32)


@pytest.fixture
def people(identity: Any) -> Any:
    return {str(one.identifier): one for one in (identity(1), identity(0x11), identity(0x31))}


def check(
    data: bytes, people: Any, expected: str | None, purpose: Purpose | None = None
) -> PurposeKeyAttestation:
    attestation = PurposeKeyAttestation.decode(data)
    subject = people.get(expected or str(attestation.subject)) or next(iter(people.values()))
    attestation.verify(subject, purpose or attestation.purpose, CLOCK)
    return attestation


@pytest.mark.parametrize("name", [n for n in CASES if "ok" in CASES[n]["verify"]])
def test_what_rust_accepts_is_accepted_with_the_same_fields_and_bytes(name: str, people: Any) -> None:
    case, expected = CASES[name], CASES[name]["verify"]["ok"]
    data = bytes.fromhex(case["attestation"])
    attestation = check(data, people, case["expected_subject"])
    assert attestation.encoded == data
    assert attestation.digest.hex() == case["digest"]
    assert str(attestation.subject) == expected["subject"]
    assert attestation.subject_latest_change_hash.hex() == expected["subject_latest_change_hash"]
    assert (attestation.created_at, attestation.expires_at) == (
        expected["created_at"],
        expected["expires_at"],
    )
    if attestation.purpose is Purpose.SECURE_CHANNEL:
        assert expected["public_key"] == {"x25519": attestation.key.data.hex()}
    else:
        encoded = cbor.encode(fields.encode_tagged(attestation.key))
        assert expected["public_key"] == {"credential_signing": encoded.hex()}


@pytest.mark.parametrize("name", [n for n in CASES if "error" in CASES[n]["verify"]])
def test_what_rust_refuses_is_refused_by_the_rule_of_that_name(name: str, people: Any) -> None:
    case = CASES[name]
    with pytest.raises(IdentityError) as raised:
        check(bytes.fromhex(case["attestation"]), people, case["expected_subject"])
    assert raised.value.fault is FAULTS[name]


def test_attestations_are_made_to_the_byte_as_in_rust(identity: Any, signer: Any) -> None:
    alice = identity(1)
    made = attest(alice, signer(1), X25519, created_at=T0, expires_at=T0 + FIVE_YEARS)
    assert made.encoded.hex() == CASES["secure channel key"]["attestation"]
    made = attest(alice, signer(1), signer(6).public_key, created_at=T0, expires_at=T0 + FIVE_YEARS)
    assert made.encoded.hex() == CASES["credential key"]["attestation"]
    assert PurposeKeyAttestation.decode(made.encoded) == made


def test_after_a_rotation_the_old_attestation_ends_and_a_new_one_holds() -> None:
    rotation = VECTORS["rotation"]
    after = ChangeHistory.decode(bytes.fromhex(rotation["change_history_after"])).verify()
    assert rotation["new_with_new_history"] == {"ok": True}
    new = PurposeKeyAttestation.decode(bytes.fromhex(rotation["new_attestation"]))
    new.verify(after, Purpose.SECURE_CHANNEL, CLOCK)
    old = PurposeKeyAttestation.decode(bytes.fromhex(rotation["old_attestation"]))
    with pytest.raises(IdentityError) as raised:
        old.verify(after, Purpose.SECURE_CHANNEL, CLOCK)
    assert raised.value.fault is Fault.NOT_LATEST_CHANGE


@pytest.mark.parametrize(
    ("created", "expires", "fault"),
    [
        (60, 1000, None),
        (61, 1000, Fault.CREATED_AHEAD),
        (-10, 0, None),
        (-10, -1, Fault.EXPIRED),
        (-3600, 10, None),
        (-3601, 10, Fault.OLDER_THAN_ISSUER),
    ],
)
def test_the_limits_of_time_hold_to_the_second(
    created: int, expires: int, fault: Any, identity: Any, signer: Any
) -> None:
    alice = identity(1)
    made = attest(alice, signer(1), X25519, created_at=CLOCK + created, expires_at=CLOCK + expires)
    if fault is None:
        made.verify(alice, Purpose.SECURE_CHANNEL, CLOCK)
    else:
        with pytest.raises(IdentityError) as raised:
            made.verify(alice, Purpose.SECURE_CHANNEL, CLOCK)
        assert raised.value.fault is fault


def test_a_key_for_one_purpose_serves_no_other(identity: Any, signer: Any) -> None:
    alice = identity(1)
    for key, other in ((X25519, Purpose.CREDENTIALS), (signer(6).public_key, Purpose.SECURE_CHANNEL)):
        made = attest(alice, signer(1), key, created_at=T0, expires_at=T0 + FIVE_YEARS)
        with pytest.raises(IdentityError) as raised:
            made.verify(alice, other, CLOCK)
        assert raised.value.fault is Fault.OTHER_PURPOSE


def test_w23_a_lifetime_is_cut_to_that_of_the_identity(identity: Any, signer: Any) -> None:
    short = identity(1, lifetime=86_400)
    made = attest(short, signer(1), X25519, created_at=T0, expires_at=T0 + FIVE_YEARS)
    assert made.expires_at == T0 + 86_400
    made.verify(short, Purpose.SECURE_CHANNEL, CLOCK)


def test_a_change_signed_as_such_is_no_attestation(history: Any) -> None:
    change = history(1).changes[0]
    stolen = cbor.encode([change.data, fields.encode_tagged(change.signature)])
    with pytest.raises(IdentityError) as raised:
        PurposeKeyAttestation.decode(stolen)
    assert raised.value.fault is Fault.DATA_TYPE


@pytest.mark.parametrize(
    ("slot", "value"),
    [
        (0, bytes(31)), (0, None), (1, bytes(33)), (2, [2, [bytes(32)]]), (2, [0, [bytes(31)]]),
        (2, [1, [bytes(32)]]),
        (2, [1, [[2, [bytes(32)]]]]), (2, [0, []]), (3, -1), (3, False), (4, None), (4, b""),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_refused(slot: int, value: Any, signer: Any) -> None:
    body: list[Any] = [bytes(32), bytes(32), [0, [bytes(32)]], 1, 2]
    body[slot] = value
    data = fields.wrap(DataType.ATTESTATION, body)
    with pytest.raises(DecodeError):
        PurposeKeyAttestation.decode(
            cbor.encode([data, fields.encode_tagged(signer(1).sign(sha256(data)))])
        )  # fmt: skip


def test_every_flipped_bit_is_refused(people: Any) -> None:
    subject = CASES["secure channel key"]["expected_subject"]
    for position in range(len(ATTESTATION)):
        for bit in range(8):
            flipped = bytearray(ATTESTATION)
            flipped[position] ^= 1 << bit
            with pytest.raises(RemoteError):
                check(bytes(flipped), people, subject, Purpose.SECURE_CHANNEL)


def test_every_truncation_is_refused() -> None:
    for length in range(len(ATTESTATION)):
        with pytest.raises(DecodeError):
            PurposeKeyAttestation.decode(ATTESTATION[:length])


def test_bytes_behind_it_are_ignored_as_in_rust() -> None:
    assert PurposeKeyAttestation.decode(ATTESTATION + b"more").encoded == ATTESTATION


@given(st.binary(max_size=200))
def test_random_bytes_cause_remote_errors_only(data: bytes) -> None:
    with pytest.raises(RemoteError):
        PurposeKeyAttestation.decode(data)
