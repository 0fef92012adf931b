"""Credentials: those that Rust made, exact bytes both ways, every rule broken alone and to the second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockamlite import cbor
from ockamlite.errors import DecodeError, RemoteError, UsageError
from ockamlite.identities import fields
from ockamlite.identities.change_history import ChangeHistory
from ockamlite.identities.credential import Credential, CredentialAndPurposeKey, issue_credential
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.fields import DataType
from ockamlite.identities.identifier import Identifier
from ockamlite.identities.purpose_key import PurposeKeyAttestation, attest
from ockamlite.limits import LIMITS
from ockamlite.vault.keys import KeyKind, PublicKey
from ockamlite.vault.primitives import sha256

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "credentials.json").read_text())
CASES = {case["name"]: case for case in VECTORS["cases"]}
CLOCK = VECTORS["clock"]
T0 = 1700000000
FIVE_YEARS = 157_680_000
STRICTER = {
    # Rust does not look. A credential issued to a later key than the one presented means that the peer
    # shows a history from before a rotation, as the thief of an old key would.
    "change hash of nobody": Fault.UNKNOWN_CHANGE,
}
FAULTS = {
    "bad: expired a second ago": Fault.EXPIRED,
    "bad: created 61 s ahead": Fault.CREATED_AHEAD,
    "bad: outlives the credential key": Fault.OUTLIVES_ISSUER,
    "bad: older than the credential key": Fault.OLDER_THAN_ISSUER,
    "bad: another subject expected": Fault.OTHER_SUBJECT,
    "bad: no subject": Fault.NO_SUBJECT,
    "bad: unknown authority": Fault.UNKNOWN_AUTHORITY,
    "bad: no authority trusted": Fault.UNKNOWN_AUTHORITY,
    "bad: signature flipped": Fault.SIGNATURE,
    "bad: data changed": Fault.OUTLIVES_ISSUER,  # what was changed is the end
    "bad: attestation of a stranger's key": Fault.UNKNOWN_AUTHORITY,
    "bad: attestation of a secure-channel key": Fault.OTHER_PURPOSE,
    "bad: attestation signature of another": Fault.SIGNATURE,
    "bad: version 2": Fault.VERSION,
    "bad: data type 2": Fault.DATA_TYPE,
    "bad: credential key expired": Fault.EXPIRED,
}
ONE = bytes.fromhex(CASES["one"]["credential_and_purpose_key"])


@pytest.fixture(scope="session")
def people() -> Any:
    found = [VECTORS[name]["change_history"] for name in ("alice", "authority", "stranger", "verifier")]
    made = [ChangeHistory.decode(bytes.fromhex(one)).verify() for one in found]
    return {str(one.identifier): one for one in made}


def check(case: Any, people: Any, *, by_identifier: bool = False) -> Any:
    presented = CredentialAndPurposeKey.decode(bytes.fromhex(case["credential_and_purpose_key"]))
    expected = case["expected_subject"]
    subject = None
    if expected is not None:
        subject = Identifier.parse(expected) if by_identifier else people[expected]
    authorities = [people[one] for one in case["authorities"] if one in people]
    return presented, presented.verify(authorities, CLOCK, subject=subject)


@pytest.mark.parametrize("name", [n for n in CASES if "ok" in CASES[n]["verify"]])
def test_what_rust_accepts_is_accepted_with_the_same_fields_and_bytes(name: str, people: Any) -> None:
    case, expected = CASES[name], CASES[name]["verify"]["ok"]
    presented, verified = check(case, people, by_identifier=name in STRICTER)
    credential = presented.credential
    assert presented.encoded.hex() == case["credential_and_purpose_key"]
    assert Credential.decode(bytes.fromhex(case["credential"])) == credential
    assert credential.digest.hex() == case["digest"]
    assert [[k.hex(), v.hex()] for k, v in credential.attributes.items()] == expected["attributes"]
    assert (credential.created_at, credential.expires_at) == (expected["created_at"], expected["expires_at"])
    assert credential.schema == expected["schema"]
    assert str(credential.subject) == str(verified.subject) == expected["subject"]
    named = credential.subject_latest_change_hash
    assert (named.hex() if named is not None else None) == expected["subject_latest_change_hash"]
    assert str(verified.authority) == VECTORS["authority"]["identifier"]
    assert verified.attributes == credential.attributes
    assert verified.is_valid(expected["expires_at"])
    assert not verified.is_valid(expected["expires_at"] + 1)


@pytest.mark.parametrize("name", [n for n in CASES if "error" in CASES[n]["verify"]])
def test_what_rust_refuses_is_refused_by_the_rule_of_that_name(name: str, people: Any) -> None:
    with pytest.raises(IdentityError) as raised:
        check(CASES[name], people)
    assert raised.value.fault is FAULTS[name]


def test_w18_a_change_that_the_subject_does_not_have_is_refused_though_rust_takes_it(people: Any) -> None:
    for name, fault in STRICTER.items():
        assert "ok" in CASES[name]["verify"]
        with pytest.raises(IdentityError) as raised:
            check(CASES[name], people)
        assert raised.value.fault is fault


@pytest.fixture
def issuer(identity: Any, signer: Any) -> Any:
    """The authority of the vectors, its credential key, and the attestation of that."""
    authority = identity(0x21)
    return (
        authority,
        signer(0x22),
        attest(
            authority, signer(0x21), signer(0x22).public_key, created_at=T0, expires_at=T0 + FIVE_YEARS
        ),
    )  # fmt: skip


ISSUED = [
    n for n in CASES if "ok" in CASES[n]["verify"] and n not in ("change hash of nobody", "no change hash")
]


@pytest.mark.parametrize("name", ISSUED)
def test_credentials_are_issued_to_the_byte_as_in_rust(name: str, issuer: Any, identity: Any) -> None:
    expected = CASES[name]["verify"]["ok"]
    # Given the other way round: the order on the wire is ours to make.
    attributes = {bytes.fromhex(k): bytes.fromhex(v) for k, v in reversed(expected["attributes"])}
    made = issue_credential(
        issuer[1], issuer[2], identity(1), attributes,
        created_at=expected["created_at"], expires_at=expected["expires_at"], schema=expected["schema"],
    )  # fmt: skip
    assert made.encoded.hex() == CASES[name]["credential_and_purpose_key"]
    assert CredentialAndPurposeKey.decode(made.encoded) == made


def test_w18_a_credential_of_a_later_key_does_not_help_who_presents_the_old_history(
    issuer: Any, identity: Any
) -> None:
    made = issue_credential(issuer[1], issuer[2], identity(1, 5), {}, created_at=T0, expires_at=T0 + 10_000)
    made.verify([issuer[0]], CLOCK, subject=identity(1, 5))
    made.verify([issuer[0]], CLOCK, subject=identity(1, 5, 9))
    with pytest.raises(IdentityError) as raised:
        made.verify([issuer[0]], CLOCK, subject=identity(1))
    assert raised.value.fault is Fault.UNKNOWN_CHANGE


def test_a_credential_ends_with_the_authoritys_key_at_the_latest(issuer: Any, identity: Any) -> None:
    made = issue_credential(
        issuer[1], issuer[2], identity(1), {}, created_at=T0, expires_at=T0 + 2 * FIVE_YEARS
    )
    assert made.credential.expires_at == T0 + FIVE_YEARS
    made.verify([issuer[0]], CLOCK)


def test_a_rotated_authority_no_longer_stands_behind_its_old_credentials(issuer: Any, identity: Any) -> None:
    made = issue_credential(issuer[1], issuer[2], identity(1), {}, created_at=T0, expires_at=T0 + 10_000)
    with pytest.raises(IdentityError) as raised:
        made.verify([identity(0x21, 0x23)], CLOCK)
    assert raised.value.fault is Fault.NOT_LATEST_CHANGE


@pytest.mark.parametrize(
    ("created", "expires", "fault"),
    [(60, 99, None), (61, 99, Fault.CREATED_AHEAD), (-9, 0, None), (-9, -1, Fault.EXPIRED)],
)
def test_the_limits_of_time_hold_to_the_second(
    created: Any, expires: Any, fault: Any, issuer: Any, identity: Any
) -> None:
    made = issue_credential(
        issuer[1], issuer[2], identity(1), {}, created_at=CLOCK + created, expires_at=CLOCK + expires
    )  # fmt: skip
    if fault is None:
        made.verify([issuer[0]], CLOCK)
    else:
        with pytest.raises(IdentityError) as raised:
            made.verify([issuer[0]], CLOCK)
        assert raised.value.fault is fault


TOO_MUCH = [
    {bytes([n]): b"" for n in range(LIMITS.attributes + 1)},
    {b"k" * (LIMITS.attribute_bytes + 1): b""},
    {b"": b"v" * (LIMITS.attribute_bytes + 1)},
]
MOST = [
    {bytes([n]): b"" for n in range(LIMITS.attributes)},
    {b"k" * LIMITS.attribute_bytes: b"v" * LIMITS.attribute_bytes},
]


def encode(body: Any, signer: Any) -> bytes:
    data = fields.wrap(DataType.CREDENTIAL, body)
    return cbor.encode([data, fields.encode_tagged(signer.sign(sha256(data)))])


@pytest.mark.parametrize("attributes", MOST)
def test_attributes_up_to_the_limits_are_issued_and_read(attributes: Any, issuer: Any, identity: Any) -> None:
    made = issue_credential(issuer[1], issuer[2], identity(1), attributes, created_at=1, expires_at=2)
    assert CredentialAndPurposeKey.decode(made.encoded).credential.attributes == attributes


@pytest.mark.parametrize("attributes", TOO_MUCH)
def test_w5_attributes_beyond_the_limits_are_neither_issued_nor_read(
    attributes: Any, issuer: Any, identity: Any
) -> None:
    with pytest.raises(UsageError):
        issue_credential(issuer[1], issuer[2], identity(1), attributes, created_at=1, expires_at=2)
    with pytest.raises(DecodeError):
        Credential.decode(encode([None, None, [1, attributes], 1, 2], issuer[1]))


@pytest.mark.parametrize(
    ("slot", "value"),
    [
        (0, bytes(31)), (1, bytes(31)), (1, 0), (2, {}), (2, [1]), (2, [1, []]), (2, [-1, {}]),
        (2, [1, {"k": b"v"}]), (2, [1, {b"k": "v"}]), (2, [1, {1: b"v"}]), (3, -1), (3, None), (4, True),
        (2, [True, {}]),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_refused(slot: int, value: Any, signer: Any) -> None:
    body = [bytes(32), bytes(32), [1, {b"k": b"v"}], 1, 2]
    Credential.decode(encode(body, signer(1)))
    body[slot] = value
    with pytest.raises(DecodeError):
        Credential.decode(encode(body, signer(1)))


def test_an_attribute_that_stands_twice_is_refused_though_rust_keeps_the_last(signer: Any) -> None:
    """Two readers of one credential must not see different attributes."""
    body = b"\x85\xf6\xf6\x82\x01\xa2\x41k\x41a\x41k\x41b\x01\x02"
    data = cbor.encode([1, 3, body])
    signed = cbor.encode([data, fields.encode_tagged(signer(1).sign(sha256(data)))])
    with pytest.raises(DecodeError, match="twice"):
        Credential.decode(signed)


@pytest.mark.parametrize("vector", VECTORS["decode"], ids=lambda v: v["name"])
def test_malformed_credentials_are_read_or_refused_as_in_rust(vector: Any) -> None:
    data = bytes.fromhex(vector["input"])
    if "ok" in vector["decode"]:
        CredentialAndPurposeKey.decode(data)
    else:
        with pytest.raises(DecodeError):
            CredentialAndPurposeKey.decode(data)


def test_every_flipped_bit_is_refused(people: Any) -> None:
    authority, alice = (people[VECTORS[name]["identifier"]] for name in ("authority", "alice"))
    for position in range(len(ONE)):
        for bit in range(8):
            flipped = bytearray(ONE)
            flipped[position] ^= 1 << bit
            with pytest.raises(RemoteError):
                CredentialAndPurposeKey.decode(bytes(flipped)).verify([authority], CLOCK, subject=alice)


def test_every_truncation_is_refused() -> None:
    for length in range(len(ONE)):
        with pytest.raises(DecodeError):
            CredentialAndPurposeKey.decode(ONE[:length])


@settings(max_examples=50)
@given(st.dictionaries(st.binary(max_size=9), st.binary(max_size=9), max_size=9), st.integers(0, 2**64 - 1))
def test_any_attributes_survive_the_journey(attributes: Any, schema: Any) -> None:
    key = PublicKey(KeyKind.ED25519, bytes(32))
    attestation = PurposeKeyAttestation(b"", Dummy().sign(b""), Identifier(bytes(32)), b"", key, 0, 99)
    alice = ChangeHistory.decode(bytes.fromhex(VECTORS["alice"]["change_history"])).verify()
    made = issue_credential(
        Dummy(), attestation, alice, attributes, created_at=1, expires_at=2, schema=schema
    )
    read = Credential.decode(cbor.encode(made.credential.to_cbor()))
    assert read == made.credential
    assert list(read.attributes) == sorted(attributes)


class Dummy:
    """Signs with zeros."""

    public_key = PublicKey(KeyKind.ED25519, bytes(32))

    def sign(self, digest: bytes) -> Any:
        from ockamlite.vault.keys import Signature

        return Signature(KeyKind.ED25519, bytes(64))


@given(st.binary(max_size=200))
def test_random_bytes_cause_remote_errors_only(data: bytes) -> None:
    with pytest.raises(RemoteError):
        CredentialAndPurposeKey.decode(data)
