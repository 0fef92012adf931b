"""CBOR (RFC 8949): written as minicbor does, and read as strictly as minicbor and more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite import cbor
from ockamlite.errors import DecodeError
from ockamlite.limits import LIMITS

# Encodings of minicbor 0.25, the lengths around each change of the head among them.
EXACT: list[tuple[Any, str]] = [
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (255, "18ff"),
    (256, "190100"),
    (65535, "19ffff"),
    (65536, "1a00010000"),
    (2**32 - 1, "1affffffff"),
    (2**32, "1b0000000100000000"),
    (2**64 - 1, "1bffffffffffffffff"),
    (-1, "20"),
    (-24, "37"),
    (-25, "3818"),
    (-(2**63), "3b7fffffffffffffff"),
    (True, "f5"),
    (False, "f4"),
    (None, "f6"),
    (b"", "40"),
    (bytes(23), "57" + "00" * 23),
    (bytes(24), "5818" + "00" * 24),
    ("", "60"),
    ("é", "62c3a9"),
    ([], "80"),
    ([1, None], "8201f6"),
    ([None, 2], "82f602"),
    ([0, []], "820080"),
    ([10, 0], "820a00"),
    ({}, "a0"),
    ({1: 1}, "a10101"),
    ({2: 1, 1: 2}, "a202010102"),
    ([0, b"echoer"], "8200466563686f6572"),
    ([[1, b"127.0.0.1:4000"], [0, b"echoer"]], "8282014e3132372e302e302e313a343030308200466563686f6572"),
    (
        {1: 0x11223344, 2: "/node/tcp/listener", 3: 1, 4: True},
        "a4011a1122334402722f6e6f64652f7463702f6c697374656e6572030104f5",
    ),
]


@pytest.mark.parametrize(("value", "encoding"), EXACT, ids=repr)
def test_a_value_has_the_bytes_of_minicbor_both_ways(value: Any, encoding: str) -> None:
    assert cbor.encode(value).hex() == encoding
    decoded = cbor.decode(bytes.fromhex(encoding))
    assert decoded == value
    assert type(decoded) is type(value)


def test_a_tuple_is_an_array() -> None:
    assert cbor.encode((0, (b"a",))).hex() == "82008141" + b"a".hex()


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65535, 65536])
def test_the_head_of_a_byte_string_can_be_had_alone(length: int) -> None:
    assert cbor.bytes_head(length) + bytes(length) == cbor.encode(bytes(length))


@pytest.mark.parametrize(
    ("encoding", "value"),
    [
        ("1800", 0),
        ("1b0000000000000001", 1),
        ("3800", -1),
        ("580161", b"a"),
        ("9800", []),
        ("b80101f6", {1: None}),
        ("9f0102ff", [1, 2]),
        ("9fff", []),
        ("bf0102ff", {1: 2}),
        ("bfff", {}),
        ("9f9f01ff80ff", [[1], []]),
    ],
)
def test_longer_heads_and_indefinite_arrays_and_maps_are_read(encoding: str, value: Any) -> None:
    assert cbor.decode(bytes.fromhex(encoding)) == value


@pytest.mark.parametrize(
    "encoding",
    [
        pytest.param("", id="nothing"),
        pytest.param("18", id="number ends early"),
        pytest.param("1b00000000000000", id="long number ends early"),
        pytest.param("4261", id="bytes end early"),
        pytest.param("5bffffffffffffffff", id="bytes of 2^64-1"),
        pytest.param("61ff", id="text is not UTF-8"),
        pytest.param("63eda080", id="text is a surrogate"),
        pytest.param("5f4161ff", id="indefinite bytes"),
        pytest.param("7f6161ff", id="indefinite text"),
        pytest.param("8101ff", id="trailing break"),
        pytest.param("82 01 ff", id="break in a definite array"),
        pytest.param("a2 01 02 03 ff", id="break in a definite map"),
        pytest.param("bf01ff", id="key without value"),
        pytest.param("ff", id="break alone"),
        pytest.param("9f01", id="indefinite array ends early"),
        pytest.param("8201", id="array ends early"),
        pytest.param("9b7fffffffffffffff00", id="array count is a lie"),
        pytest.param("bb7fffffffffffffff00", id="map count is a lie"),
        pytest.param("a201020103", id="key twice"),
        pytest.param("bf01020103ff", id="key twice, indefinite"),
        pytest.param("a2010218010 3".replace(" ", ""), id="key twice, another length"),
        pytest.param("a1f501", id="bool as key"),
        pytest.param("a1f601", id="null as key"),
        pytest.param("a18001", id="array as key"),
        pytest.param("a1a001", id="map as key"),
        pytest.param("c001", id="tag"),
        pytest.param("d9d9f701", id="self-described"),
        pytest.param("c24101", id="bignum"),
        pytest.param("f7", id="undefined"),
        pytest.param("e0", id="simple 0"),
        pytest.param("f814", id="long false"),
        pytest.param("f8ff", id="simple 255"),
        pytest.param("f90000", id="half float"),
        pytest.param("f90014", id="half float that looks like false"),
        pytest.param("fa00000000", id="float"),
        pytest.param("fb0000000000000000", id="double"),
        pytest.param("1c", id="reserved head"),
        pytest.param("5d", id="reserved head of bytes"),
        pytest.param("fe", id="reserved simple"),
        pytest.param("1f", id="indefinite number"),
        pytest.param("3f", id="indefinite negative number"),
        pytest.param("df01", id="indefinite tag"),
    ],
)
def test_what_no_peer_may_send_is_a_decode_error(encoding: str) -> None:
    with pytest.raises(DecodeError):
        cbor.decode(bytes.fromhex(encoding))


def test_bytes_behind_the_item_are_refused_unless_told_otherwise() -> None:
    # Rust ignores them everywhere; a caller that reads what Rust sent says so.
    with pytest.raises(DecodeError, match="2 bytes behind"):
        cbor.decode(b"\x01\x02\x03")
    assert cbor.decode(b"\x01\x02\x03", trailing=True) == 1


def test_items_one_behind_the_other_are_read_in_turn() -> None:
    data = memoryview(b"\xa1\x01\x02" + b"\x61x")
    first, at = cbor.decode_at(data, 0)
    second, end = cbor.decode_at(data, at)
    assert (first, second, end) == ({1: 2}, "x", len(data))
    with pytest.raises(DecodeError, match="early"):
        cbor.decode_at(data, end)


@pytest.mark.parametrize("head", [b"\x81", b"\x9f", b"\xa1\x00", b"\xbf\x00"])
def test_nesting_has_a_bound(head: bytes) -> None:
    tail = b"\xff" if head[0] & 31 == 31 else b""
    deepest = head * LIMITS.cbor_depth + b"\x00" + tail * LIMITS.cbor_depth
    assert cbor.decode(deepest) is not None
    with pytest.raises(DecodeError, match="deep"):
        cbor.decode(head + deepest + tail)
    with pytest.raises(DecodeError, match="deep"):
        cbor.decode(head * 100_000)
    assert cbor.decode(b"\x81\x01", depth=1) == [1]
    with pytest.raises(DecodeError, match="deep"):
        cbor.decode(b"\x81\x81\x01", depth=1)


def test_the_entries_of_an_array_have_a_bound() -> None:
    most = LIMITS.cbor_items
    assert cbor.decode(b"\x99" + most.to_bytes(2, "big") + bytes(most)) == [0] * most
    assert cbor.decode(b"\x9f" + bytes(most) + b"\xff") == [0] * most
    for encoding in (b"\x99" + (most + 1).to_bytes(2, "big") + bytes(most + 1), b"\x9f" + bytes(most + 1)):
        with pytest.raises(DecodeError, match="too long"):
            cbor.decode(encoding)


def test_the_entries_of_a_map_have_a_bound() -> None:
    def pairs(count: int) -> bytes:
        return b"".join(b"\x19" + key.to_bytes(2, "big") + b"\x00" for key in range(count))

    most = LIMITS.cbor_items
    assert cbor.decode(b"\xb9" + most.to_bytes(2, "big") + pairs(most)) == dict.fromkeys(range(most), 0)
    assert cbor.decode(b"\xbf" + pairs(most) + b"\xff") == dict.fromkeys(range(most), 0)
    for head, tail in ((b"\xb9" + (most + 1).to_bytes(2, "big"), b""), (b"\xbf", b"\xff")):
        with pytest.raises(DecodeError, match="too long"):
            cbor.decode(head + pairs(most + 1) + tail)


def test_the_values_of_one_decoding_have_a_bound_in_all() -> None:
    inner = b"\x99\x04\x00" + b"\x80" * 1024
    outer = LIMITS.cbor_values // 1025
    assert cbor.decode(b"\x98" + bytes([outer]) + inner * outer) == [[[]] * 1024] * outer
    with pytest.raises(DecodeError, match="too long"):
        cbor.decode(b"\x98" + bytes([outer + 1]) + inner * (outer + 1))


KEYS = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=8) | st.text(max_size=8)
VALUES = st.recursive(
    KEYS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_every_value_comes_back(value: Any) -> None:
    assert cbor.decode(cbor.encode(value), depth=30) == value


@given(VALUES, st.data())
def test_a_value_cut_short_is_refused(value: Any, data: st.DataObject) -> None:
    encoding = cbor.encode(value)
    with pytest.raises(DecodeError):
        cbor.decode(encoding[: data.draw(st.integers(0, len(encoding) - 1))], depth=30)


def check_type(value: Any) -> None:
    assert type(value) in (int, bytes, str, bool, list, dict, type(None))
    if type(value) is list:
        for item in value:
            check_type(item)
    if type(value) is dict:
        for key, item in value.items():
            assert type(key) in (int, bytes, str)
            check_type(item)


@given(VALUES, st.data())
def test_spoilt_bytes_cause_a_decode_error_or_a_plain_value(value: Any, data: st.DataObject) -> None:
    encoding = bytearray(cbor.encode(value))
    for place in data.draw(st.lists(st.integers(0, len(encoding) - 1), min_size=1, max_size=4)):
        encoding[place] = data.draw(st.integers(0, 255))
    try:
        check_type(cbor.decode(bytes(encoding), trailing=True))
    except DecodeError:
        pass


@given(st.binary(max_size=64))
def test_random_bytes_cause_a_decode_error_or_a_plain_value(data: bytes) -> None:
    try:
        check_type(cbor.decode(data, trailing=True))
    except DecodeError:
        pass
