"""Change histories: all that Rust made, exact bytes both ways, and every rule broken alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite import cbor
from ockamlite.errors import DecodeError, RemoteError
from ockamlite.identities import fields
from ockamlite.identities.change import Change, make_change
from ockamlite.identities.change_history import ChangeHistory, Comparison, VerifiedHistories
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.fields import DataType
from ockamlite.limits import LIMITS
from ockamlite.vault.keys import KeyKind, Signature
from ockamlite.vault.primitives import sha256

if TYPE_CHECKING:
    from collections.abc import Callable

# Any shape at all goes through these.
encode: Callable[[Any], bytes] = cbor.encode
decode: Any = cbor.decode

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "identities.json").read_text())
CASES = {case["name"]: case for case in VECTORS["cases"]}
STRICTER = {
    # Nobody makes one, it is not covered by any check, and it would travel and be stored with the rest.
    "first change has a previous signature (by a stranger)": Fault.FIRST_HAS_PREVIOUS_SIGNATURE,
}
FAULTS = {
    "bad: second older than the first": Fault.EARLIER_THAN_PREDECESSOR,
    "bad: version 2": Fault.VERSION,
    "bad: version 0": Fault.VERSION,
    "bad: data type 2": Fault.DATA_TYPE,
    "bad: first change names a previous one": Fault.FIRST_HAS_PREDECESSOR,
    "bad: wrong previous hash": Fault.WRONG_PREDECESSOR,
    "bad: previous signature by a stranger": Fault.PREVIOUS_SIGNATURE,
    "bad: first signature flipped": Fault.SIGNATURE,
    "bad: second signature flipped": Fault.SIGNATURE,
    "bad: previous signature flipped": Fault.PREVIOUS_SIGNATURE,
    "bad: previous signature missing": Fault.NO_PREVIOUS_SIGNATURE,
    "bad: the two signatures swapped": Fault.PREVIOUS_SIGNATURE,
    "bad: changes in the wrong order": Fault.FIRST_HAS_PREDECESSOR,
    "bad: only the second change": Fault.FIRST_HAS_PREDECESSOR,
    "bad: the first change twice": Fault.WRONG_PREDECESSOR,
    "bad: no change": Fault.NO_CHANGE,
    "bad: data changed": Fault.WRONG_PREDECESSOR,
}
ALICE = bytes.fromhex(CASES["alice"]["change_history"])
ROTATED = bytes.fromhex(CASES["alice rotated with revocation"]["change_history"])
KINDS = {"ed25519_seed": KeyKind.ED25519, "p256_scalar": KeyKind.P256}


def verify(data: bytes) -> Any:
    return ChangeHistory.decode(data).verify()


def accepted(case: Any) -> bool:
    return "ok" in case["import"] and case["name"] not in STRICTER


@pytest.mark.parametrize("name", [n for n in CASES if accepted(CASES[n])])
def test_what_rust_accepts_is_read_alike(name: str) -> None:
    case, expected = CASES[name], CASES[name]["import"]["ok"]
    identity = verify(bytes.fromhex(case["change_history"]))
    assert str(identity.identifier) == expected["identifier"]
    assert [change.hash.hex() for change in identity.changes] == expected["change_hashes"]
    assert expected["latest_public_key"] == {identity.latest.key.kind.value: identity.latest.key.data.hex()}
    for change, fields_ in zip(identity.changes, expected["changes"], strict=True):
        assert change.valid_from == fields_["attestations_valid_from"]
        assert change.valid_until == fields_["attestations_valid_until"]
        assert change.revoke_all_purpose_keys is fields_["revoke_all_purpose_keys"]
        previous = fields_["previous_change"]
        assert change.previous_change == (previous if previous is None else bytes.fromhex(previous))


@pytest.mark.parametrize("name", [n for n in CASES if accepted(CASES[n]) and n != "trailing bytes"])
def test_what_rust_made_is_exported_as_the_same_bytes(name: str) -> None:
    data = bytes.fromhex(CASES[name]["change_history"])
    assert verify(data).encoded == data


@pytest.mark.parametrize("name", [n for n in CASES if accepted(CASES[n]) and "secrets" in CASES[n]])
def test_the_same_secrets_make_the_same_bytes_as_in_rust(name: str, signer: Any) -> None:
    case = CASES[name]
    changes: tuple[Change, ...] = ()
    before: Any = None
    for secret, made in zip(case["secrets"], case["import"]["ok"]["changes"], strict=True):
        ((kind, hexed),) = secret.items()
        key = signer(bytes.fromhex(hexed)[0], KINDS[kind])
        change = make_change(
            key,
            valid_from=made["attestations_valid_from"],
            valid_until=made["attestations_valid_until"],
            previous=changes[-1] if changes else None,
            previous_signer=before,
            revoke=made["revoke_all_purpose_keys"],
        )
        changes, before = (*changes, change), key
    assert ChangeHistory(changes).encoded.hex() == case["change_history"]
    assert ChangeHistory(changes).verify().changes == changes


@pytest.mark.parametrize("name", [n for n in CASES if "error" in CASES[n]["import"]])
def test_what_rust_refuses_is_refused(name: str) -> None:
    data = bytes.fromhex(CASES[name]["change_history"])
    with pytest.raises(RemoteError) as raised:
        verify(data)
    if name in FAULTS:
        assert isinstance(raised.value, IdentityError)
        assert raised.value.fault is FAULTS[name]
    else:
        assert isinstance(raised.value, DecodeError)


def test_w18_a_previous_signature_on_the_first_change_is_refused_though_rust_takes_it() -> None:
    for name, fault in STRICTER.items():
        assert "ok" in CASES[name]["import"]
        with pytest.raises(IdentityError) as raised:
            verify(bytes.fromhex(CASES[name]["change_history"]))
        assert raised.value.fault is fault


def test_a_null_in_its_place_is_no_previous_signature() -> None:
    ((data, signature),) = decode(ALICE)
    assert verify(encode([[data, signature, None]])).encoded == ALICE


@pytest.mark.parametrize("vector", VECTORS["compare"], ids=lambda v: f"{v['received']} beside {v['known']}")
def test_histories_compare_as_in_rust(vector: Any, identity: Any) -> None:
    people = {
        "one": identity(1), "two": identity(1, 5), "other two": identity(1, 9), "stranger": identity(0x31),
    }  # fmt: skip
    received, known = people[vector["received"]], people[vector["known"]]
    assert received.compare(known) is Comparison[vector["result"].upper()]
    if vector["result"] in ("Older", "Conflict"):
        with pytest.raises(IdentityError):
            received.check_not_behind(known)
    else:
        received.check_not_behind(known)


def test_anything_does_beside_nothing_known(identity: Any) -> None:
    identity(1).check_not_behind(None)


def test_slots_and_bytes_that_mean_nothing_are_neither_kept_nor_exported() -> None:
    ((data, signature),) = decode(ALICE)
    stray = encode([[data, [*signature, "x"][:2], None, b"more", {1: 2}]]) + bytes(500)
    assert verify(stray).encoded == ALICE


def test_a_history_of_the_most_changes_is_accepted_and_of_one_more_refused_unread(history: Any) -> None:
    longest = history(*range(1, LIMITS.changes + 1))
    assert len(ChangeHistory.decode(longest.encoded).verify().changes) == LIMITS.changes
    with pytest.raises(DecodeError, match="too long"):
        ChangeHistory.decode(history(*range(1, LIMITS.changes + 2)).encoded)


def spoiled(key: Any, **wrong: Any) -> bytes:
    """Alice's first change with one field of its data another, and rightly signed."""
    body: list[Any] = [None, fields.encode_tagged(key.public_key), False, 1, 2]
    body[wrong["slot"]] = wrong["value"]
    data = fields.wrap(DataType.CHANGE, body)
    return encode([[data, fields.encode_tagged(key.sign(sha256(data)))]])


@pytest.mark.parametrize(
    ("slot", "value"),
    [
        (0, 0), (0, bytes(31)), (0, [None]), (1, None), (1, [0, [bytes(31)]]), (1, [2, [bytes(32)]]),
        (1, [0, []]), (1, [0, bytes(32)]), (1, [0, [bytes(32)], 0]), (1, [1, [bytes(32)]]),
        (1, [True, [bytes(32)]]),
        (2, 0), (2, None), (3, -1), (3, True), (3, b"1"), (3, None), (4, "2"), (4, -(2**63)),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_refused(slot: int, value: Any, signer: Any) -> None:
    with pytest.raises(DecodeError):
        verify(spoiled(signer(1), slot=slot, value=value))


def test_a_well_formed_change_made_that_way_is_accepted(signer: Any) -> None:
    verify(spoiled(signer(1), slot=2, value=True))


@pytest.mark.parametrize("data", [ROTATED, bytes.fromhex(CASES["p256 to ed25519"]["change_history"])])
def test_every_flipped_bit_is_refused(data: bytes) -> None:
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(RemoteError):
                verify(bytes(flipped))


def test_every_truncation_is_refused() -> None:
    for length in range(len(ROTATED)):
        with pytest.raises(DecodeError):
            verify(ROTATED[:length])


@given(st.binary(max_size=300))
def test_random_bytes_cause_remote_errors_only(data: bytes) -> None:
    with pytest.raises(RemoteError):
        verify(data)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=70)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES, VALUES, VALUES)
def test_any_cbor_in_any_place_causes_remote_errors_only(one: Any, two: Any, three: Any) -> None:
    for shape in (one, [one], [[one, two]], [[one, two, three]]):
        with pytest.raises(RemoteError):
            verify(encode(shape))
    with pytest.raises(RemoteError):
        verify(encode([[encode([1, 1, encode([one, two, three, 1, 2])]), [0, [bytes(64)]]]]))


# -- the memory of verified histories ------------------------------------------------------------


def test_a_history_verified_once_is_not_verified_again(history: Any, monkeypatch: Any) -> None:
    cache = VerifiedHistories()
    first = cache.verify(ChangeHistory.decode(ALICE))
    monkeypatch.setattr(ChangeHistory, "verify", None)
    assert cache.verify(ChangeHistory.decode(ALICE + b"trailing")) is first


def test_a_history_that_does_not_hold_is_not_remembered() -> None:
    cache = VerifiedHistories()
    bad = ChangeHistory.decode(bytes.fromhex(CASES["bad: first signature flipped"]["change_history"]))
    for _ in range(2):
        with pytest.raises(IdentityError):
            cache.verify(bad)
    assert len(cache) == 0


def test_the_memory_is_bounded_and_forgets_what_was_not_used_for_longest(identity: Any) -> None:
    cache = VerifiedHistories(limit=2)
    kept = [cache.verify(ChangeHistory(identity(secret).changes)) for secret in (1, 2)]
    assert cache.verify(ChangeHistory(identity(1).changes)) is kept[0]
    cache.verify(ChangeHistory(identity(3).changes))
    assert len(cache) == 2
    assert cache.verify(ChangeHistory(identity(1).changes)) is kept[0]
    assert cache.verify(ChangeHistory(identity(2).changes)) is not kept[1]


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_w27_the_twin_of_a_p256_signature_is_the_same_identity() -> None:
    """(r, n - s) holds as well as (r, s): what is told apart by bytes would be fooled."""
    history = ChangeHistory.decode(bytes.fromhex(CASES["p256"]["change_history"]))
    change = history.changes[0]
    r, s = change.signature.data[:32], int.from_bytes(change.signature.data[32:], "big")
    twin = replace(change, signature=Signature(KeyKind.P256, r + (P256_ORDER - s).to_bytes(32, "big")))
    one, other = history.verify(), ChangeHistory((twin,)).verify()
    assert one.encoded != other.encoded
    assert one == other
    assert hash(one) == hash(other)
    assert one.identifier == other.identifier
    assert one.compare(other) is Comparison.EQUAL


def test_a_forged_signature_is_refused_even_if_the_same_changes_were_verified() -> None:
    cache = VerifiedHistories()
    cache.verify(ChangeHistory.decode(ROTATED))
    with pytest.raises(IdentityError):
        cache.verify(
            ChangeHistory.decode(bytes.fromhex(CASES["bad: second signature flipped"]["change_history"]))
        )


def test_an_identity_is_printed_short(identity: Any) -> None:
    one = identity(1, 5)
    assert repr(one) == f"<Identity {one.identifier}, changes: 2>"
