"""Noise XX (revision 34): every byte of an independent implementation, and what a bad key does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ockamlite.errors import DecodeError, UsageError, VerificationError
from ockamlite.secure_channels import noise
from ockamlite.secure_channels.noise import DhKey, SymmetricState
from ockamlite.vault.primitives import Aead

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/noise_xx.json").read_text())
MakeKey = Callable[[bytes], DhKey]

# Points that every X25519 secret takes to zero (RFC 7748, §6.1; the last is above the prime).
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
]


class ZeroKey:
    """A key in hardware that does not look at what it is given."""

    public = b"\x09" + bytes(31)

    def exchange(self, public: bytes) -> bytes:
        return bytes(len(public))


@pytest.mark.parametrize(
    "case", VECTORS["cases"], ids=lambda case: f"{case['protocol_name']} {case['prologue']}"
)
def test_both_roles_agree_to_the_byte_with_an_independent_implementation(
    case: dict[str, Any], dh_key: MakeKey
) -> None:
    static_i, ephemeral_i, static_r, ephemeral_r = (
        dh_key(bytes.fromhex(case[side][kind]))
        for side in ("initiator", "responder")
        for kind in ("static", "ephemeral")
    )
    payloads = [bytes.fromhex(text) for text in case["payloads"]]
    expected = [bytes.fromhex(text) for text in case["messages"]]
    start = SymmetricState.start(case["protocol_name"].encode(), bytes.fromhex(case["prologue"]))

    initiator, message1 = noise.write1(start, ephemeral_i, payloads[0])
    assert message1 == expected[0]
    read1 = noise.read1(start, message1)
    assert (read1.peer_ephemeral, read1.payload) == (ephemeral_i.public, payloads[0])

    responder, message2 = noise.write2(read1.state, static_r, ephemeral_r, read1.peer_ephemeral, payloads[1])
    assert message2 == expected[1]
    read2 = noise.read2(initiator, ephemeral_i, message2)
    assert read2[1:] == (ephemeral_r.public, static_r.public, payloads[1])

    initiator, message3 = noise.write3(read2.state, static_i, read2.peer_ephemeral, payloads[2])
    assert message3 == expected[2]
    read3 = noise.read3(responder, ephemeral_r, message3)
    assert read3[1:] == (static_i.public, payloads[2])

    assert initiator == read3.state
    assert initiator.transcript.hex() == case["handshake_hash"]
    first, second = initiator.split()
    counters = {"initiator": 0, "responder": 0}
    for packet in case["transport"]:
        sender = packet["from"]
        key = Aead(first if sender == "initiator" else second)
        sealed = key.seal(counters[sender].to_bytes(12, "big"), bytes.fromhex(packet["plaintext"]), None)
        assert sealed.hex() == packet["ciphertext"]
        counters[sender] += 1


def test_a_name_of_more_than_32_bytes_is_hashed() -> None:
    # Noise rev 34, §5.2: InitializeSymmetric.
    assert SymmetricState.start(b"n" * 32).chaining_key == b"n" * 32
    assert SymmetricState.start(b"n" * 31).chaining_key == b"n" * 31 + b"\0"
    assert len(SymmetricState.start(b"n" * 33).chaining_key) == 32
    assert SymmetricState.start(b"n" * 33).chaining_key != b"n" * 32


@pytest.mark.parametrize("point", LOW_ORDER)
def test_w8_a_key_of_low_order_is_refused_in_every_place(point: str, dh_key: MakeKey) -> None:
    start = SymmetricState.start()
    low = bytes.fromhex(point)
    static, ephemeral, other = (dh_key(bytes([n]) * 32) for n in (1, 2, 3))
    with pytest.raises(VerificationError):
        noise.write2(start, static, ephemeral, low, b"")
    with pytest.raises(VerificationError):
        noise.read2(start, ephemeral, low + bytes(48 + 16))
    # Static keys arrive sealed, so only a peer that follows the handshake can send a bad one.
    opened, message1 = noise.write1(start, ephemeral)
    asked = noise.read1(start, message1).state
    state = asked.mix_hash(other.public).mix_key(other.exchange(ephemeral.public))
    _, sealed_static = state.encrypt(low)
    with pytest.raises(VerificationError):
        noise.read2(opened, ephemeral, other.public + sealed_static + bytes(16))
    with pytest.raises(VerificationError):
        noise.read3(state, ephemeral, sealed_static + bytes(16))
    with pytest.raises(VerificationError):
        noise.write3(state, static, low, b"")


def test_w8_a_zero_result_is_refused_even_if_the_key_holder_does_not_look() -> None:
    with pytest.raises(VerificationError, match="low order"):
        noise.write2(SymmetricState.start(), ZeroKey(), ZeroKey(), b"\x09" + bytes(31), b"")


@pytest.mark.parametrize(("number", "least"), [(1, 32), (2, 80), (3, 48)])
def test_messages_that_are_too_short_or_too_long_are_refused_unread(
    number: int, least: int, dh_key: MakeKey
) -> None:
    def read(message: bytes) -> object:
        start = SymmetricState.start()
        if number == 1:
            return noise.read1(start, message)
        return (noise.read2 if number == 2 else noise.read3)(start, dh_key(b"\x01" * 32), message)

    for length in (*range(least), 65_536):
        with pytest.raises(DecodeError, match=f"{length} bytes"):
            read(bytes(length))
    try:
        read(b"\x09" + bytes(65_534))
    except VerificationError:
        assert number != 1


def test_a_payload_that_does_not_fit_is_our_own_mistake(dh_key: MakeKey) -> None:
    key = dh_key(b"\x01" * 32)
    start = SymmetricState.start()
    room = 65_535 - 32 - 48 - 16
    assert len(noise.write2(start, key, key, key.public, bytes(room))[1]) == 65_535
    with pytest.raises(UsageError, match="65536"):
        noise.write2(start, key, key, key.public, bytes(room + 1))


def test_a_state_shows_no_key_in_its_repr(dh_key: MakeKey) -> None:
    state = SymmetricState.start().mix_key(dh_key(b"\x01" * 32).exchange(dh_key(b"\x02" * 32).public))
    assert state.key is not None
    for secret in (state.key, state.chaining_key):
        assert repr(secret) not in repr(state)
        assert secret.hex() not in repr(state)
