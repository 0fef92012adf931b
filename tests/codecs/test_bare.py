"""BARE: the bytes of Rust's serde_bare both ways, and that hostile bytes cause DecodeError alone."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite import bare
from ockamlite.bare import F32, I8, I16, I32, I64, U8, U16, U32, U64, UInt
from ockamlite.errors import DecodeError, UsageError
from ockamlite.limits import LIMITS

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/bare.json").read_text())


class Choice(enum.Enum):
    UNIT = "a"
    NEW = "b"
    PAIR = "c"
    NAMED = "d"


class Empty(enum.Enum):
    pass


@dataclass(frozen=True, slots=True)
class Shape:
    number: U64
    flag: bool
    text: str
    data: bytes
    maybe: str | None
    numbers: list[U16]


@dataclass(frozen=True, slots=True)
class LocalInfo:
    type_identifier: str
    data: bytes


@dataclass(frozen=True, slots=True)
class RelayInfo:
    forwarding_route: tuple[tuple[U8, bytes], ...]
    remote_address: str
    worker_address: tuple[U8, bytes]
    flow_control_id: str | None


@dataclass(frozen=True, slots=True)
class Even:
    number: U8

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("odd")


@dataclass(frozen=True, slots=True)
class Loop:
    next: Loop | None


@dataclass(frozen=True, slots=True)
class Everything:
    choice: Choice
    short: F32
    numbers: dict[U32, tuple[I8, I16, I32, I64]]
    inner: Even | None
    nested: list[list[str]]
    count: UInt
    double: float
    nothing: None


KINDS: dict[str, Any] = {
    "u64": U64,
    "u8": U8,
    "u16": U16,
    "u32": U32,
    "i64": I64,
    "i32": I32,
    "f64": float,
    "bool": bool,
    "String": str,
    "Vec<u8>": bytes,
    "Vec<String>": list[str],
    "Option<String>": str | None,
    "Option<u64>": U64 | None,
    "()": None,
    "(u8, String)": tuple[U8, str],
    "[u8; 4]": tuple[U8, U8, U8, U8],
    "enum Choice": Choice,
}

# Values that the vectors describe in words.
DESCRIBED: dict[str, tuple[Any, Any]] = {
    "Unit, variant 0": (Choice.UNIT, Choice),
    "New(u64 258), variant 1": ((1, 258), tuple[UInt, U64]),
    "Pair(u8 9, String z), variant 2": ((2, 9, "z"), tuple[UInt, U8, str]),
    "Named{a: u32 1, b: bool true}, variant 3": ((3, 1, True), tuple[UInt, U32, bool]),
    "number: u64 1, flag: bool true, text: String t, data: Vec<u8> 0908, maybe: Option<String> m,"
    " list: Vec<u16> [1, 2]": (Shape(1, True, "t", b"\x09\x08", "m", [1, 2]), Shape),
    "type_identifier TYPE, data 0102": (LocalInfo("TYPE", b"\x01\x02"), LocalInfo),
    "forwarding_route [a, forward_to_x], remote_address, worker_address w, flow_control_id none": (
        RelayInfo(((0, b"a"), (0, b"forward_to_x")), "forward_to_x", (0, b"w"), None),
        RelayInfo,
    ),
}


def described(case: dict[str, Any]) -> tuple[Any, Any]:
    value, kind = case["value"], case["type"]
    if isinstance(value, str) and value in DESCRIBED:
        return DESCRIBED[value]
    if "bare_first_8" in case:
        return "x" * int(value.rpartition(" ")[2]), str
    if kind == "Vec<u8>":
        return bytes.fromhex(value), bytes
    if kind in ("(u8, String)", "[u8; 4]"):
        return tuple(value), KINDS[kind]
    return value, KINDS[kind]


@pytest.mark.parametrize("case", VECTORS["encode"], ids=lambda case: f"{case['type']} {case['value']}"[:40])
def test_a_value_has_the_bytes_of_rust_both_ways(case: dict[str, Any]) -> None:
    value, kind = described(case)
    encoding = bare.encode(value, kind)
    if "bare" in case:
        assert encoding.hex() == case["bare"]
    else:
        assert (encoding[:8].hex(), len(encoding)) == (case["bare_first_8"], case["bare_length"])
    decoded = bare.decode(encoding, kind)
    assert decoded == value
    assert type(decoded) is type(value)


def outcome(data: bytes, kind: Any, *, trailing: bool) -> Any:
    try:
        value = bare.decode(data, kind, trailing=trailing)
    except DecodeError:
        return DecodeError
    return value


@pytest.mark.parametrize("case", VECTORS["decode"], ids=lambda case: case["name"])
def test_what_rust_accepts_and_refuses_we_do_too_if_told_to_ignore_what_follows(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["input"])
    kinds: dict[str, Any] = {"String": str, "bool": bool, "Option<String>": str | None}
    kinds["enum Choice"] = tuple[UInt, U64] if case["name"] == "variant 1 short" else Choice
    for rust, kind in kinds.items():
        if rust in case:
            expected = case[rust].get("ok", DecodeError)
            expected = Choice.UNIT if expected == "Unit" else expected
            assert outcome(data, kind, trailing=True) == expected
            # Rust ignores bytes behind the value everywhere. We refuse them unless told otherwise: they
            # are a sign of another format, and nothing sends them.
            refused = DecodeError if case["name"] == "trailing bytes" else expected
            assert outcome(data, kind, trailing=False) == refused
    # A whole message typed Vec<u8> is not BARE at all in today's Rust: the bytes come back unchanged.
    assert case.get("Vec<u8>", {"ok": case["input"]})["ok"] == case["input"]


@pytest.mark.parametrize(
    ("value", "kind", "name"),
    [("hello", str, "String `hello`"), ("", str, "String empty"), (None, None, "()")],
)
def test_a_whole_message_has_the_payload_of_rust(value: Any, kind: Any, name: str) -> None:
    payload = {case["message"]: case["payload"] for case in VECTORS["messages"]}[name]
    assert bare.encode(value, kind).hex() == payload
    assert bare.decode(bytes.fromhex(payload), kind) == value


@pytest.mark.parametrize(
    ("number", "encoding"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16384, "808001"),
        (2**63, "80808080808080808001"),
        (2**64 - 1, "ffffffffffffffffff01"),
    ],
)
def test_a_varint_has_seven_bits_a_byte_lowest_first(number: int, encoding: str) -> None:
    assert bare.encode_uint(number).hex() == encoding
    assert bare.decode_uint(bytes.fromhex("ff" + encoding + "ff"), 1) == (number, 1 + len(encoding) // 2)
    assert bare.decode_uint(memoryview(bytes.fromhex(encoding)), 0) == (number, len(encoding) // 2)


@pytest.mark.parametrize(("encoding", "number"), [("8000", 0), ("858000", 5), ("ff80808000", 127)])
def test_a_varint_that_is_not_the_shortest_is_read(encoding: str, number: int) -> None:
    assert bare.decode_uint(bytes.fromhex(encoding), 0) == (number, len(encoding) // 2)


@pytest.mark.parametrize(
    "encoding",
    [
        "",
        "80",
        "ffffffffffffffffff",
        "80" * 9 + "00",
        "ff" * 9 + "02",
        "ff" * 9 + "81" + "00",
        "80" * 11 + "01",
    ],
)
def test_a_varint_that_ends_early_or_exceeds_64_bits_is_refused(encoding: str) -> None:
    with pytest.raises(DecodeError):
        bare.decode_uint(bytes.fromhex(encoding), 0)


@pytest.mark.parametrize("number", [-1, 2**64, True, 1.0, "1"])
def test_what_is_no_uint_is_not_encoded(number: Any) -> None:
    with pytest.raises(UsageError):
        bare.encode_uint(number)


def test_strings_and_byte_strings_have_plain_functions() -> None:
    assert bare.encode_str("größe ✓").hex() == "0b6772c3b6c39f6520e29c93"
    assert bare.decode_str(bytes.fromhex("0b6772c3b6c39f6520e29c93")) == "größe ✓"
    assert bare.encode_bytes(b"\1\2") == b"\2\1\2"
    assert bare.decode_bytes(memoryview(b"\2\1\2")) == b"\1\2"
    assert bare.decode_bytes(b"\2\1\2\3", trailing=True) == b"\1\2"
    assert bare.decode_str(b"\1ab", trailing=True) == "a"


@pytest.mark.parametrize("data", ["", "0261", "01ff", "ffffffffffffffffff01", "016162"])
def test_plain_functions_refuse_what_is_short_long_or_not_utf8(data: str) -> None:
    with pytest.raises(DecodeError):
        bare.decode_str(bytes.fromhex(data))
    if data != "01ff":
        with pytest.raises(DecodeError):
            bare.decode_bytes(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (int, "UInt"),
        (list[int], "UInt"),
        (str | bytes, None),
        (str | bytes | None, None),
        (list, None),
        (set[str], None),
        (object, None),
        ("str", None),
        ([], None),
        (Empty, None),
        (Loop, "itself"),
        (list[None], "bound"),
        (list[tuple[()]], "bound"),
        (dict[float, str], "key"),
        (dict[F32, str], "key"),
        (dict[list[str], str], "key"),
    ],
)
def test_a_kind_that_bare_cannot_write_is_a_usage_error(kind: Any, known: str | None) -> None:
    with pytest.raises(UsageError, match=known):
        bare.encode(None, kind)
    with pytest.raises(UsageError, match=known):
        bare.decode(b"", kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (256, U8),
        (-1, U8),
        (128, I8),
        (True, U8),
        (1.0, U8),
        (1, bool),
        ("x", float),
        (1e300, F32),
        (10**400, float),
        (b"x", str),
        ("x", bytes),
        ("\ud800", str),
        (0, None),
        ((1,), list[U8]),
        ([1], tuple[U8, ...]),
        ((1,), tuple[U8, U8]),
        ([("a", 1)], dict[str, U8]),
        ({"a": 256}, dict[str, U8]),
        (Shape, Shape),
        (LocalInfo("a", b""), Shape),
        ("a", Choice),
        (Choice.UNIT, Empty | None),
    ],
)
def test_a_value_of_another_kind_is_a_usage_error(value: Any, kind: Any) -> None:
    with pytest.raises(UsageError):
        bare.encode(value, kind)


def test_the_error_does_not_show_the_value() -> None:
    with pytest.raises(UsageError) as caught:
        bare.encode("hunter2", bytes)
    assert "hunter2" not in str(caught.value)


def test_a_count_beyond_what_is_there_is_refused_before_anything_is_built() -> None:
    for count in (2, 2**20, 2**64 - 1):
        with pytest.raises(DecodeError, match="too long"):
            bare.decode(bare.encode_uint(count) + b"\1", list[bool])
    with pytest.raises(DecodeError, match="too long"):
        bare.decode(bare.encode_uint(3) + bytes(23), list[U64])


def test_a_list_has_a_bound_both_ways() -> None:
    longest = [False] * LIMITS.bare_items
    assert bare.decode(bare.encode(longest, list[bool]), list[bool]) == longest
    with pytest.raises(UsageError):
        bare.encode([*longest, False], list[bool])
    with pytest.raises(DecodeError, match="too long"):
        bare.decode(bare.encode_uint(LIMITS.bare_items + 1) + bytes(LIMITS.bare_items + 1), list[bool])


def test_a_map_with_a_key_twice_is_refused() -> None:
    assert bare.decode(bytes.fromhex("0201000200"), dict[U8, bool]) == {1: False, 2: False}
    with pytest.raises(DecodeError, match="twice"):
        bare.decode(bytes.fromhex("0201000100"), dict[U8, bool])


def test_a_record_that_refuses_its_fields_is_a_decode_error() -> None:
    assert bare.decode(b"\2", Even) == Even(2)
    with pytest.raises(DecodeError, match="odd"):
        bare.decode(b"\3", Even)


EVERYTHING = st.builds(
    Everything,
    choice=st.sampled_from(Choice),
    short=st.floats(width=32, allow_nan=False),
    numbers=st.dictionaries(
        st.integers(0, 2**32 - 1),
        st.tuples(
            st.integers(-(2**7), 2**7 - 1),
            st.integers(-(2**15), 2**15 - 1),
            st.integers(-(2**31), 2**31 - 1),
            st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=4,
    ),
    inner=st.none() | st.builds(Even, st.integers(0, 127).map(lambda half: 2 * half)),
    nested=st.lists(st.lists(st.text(), max_size=3), max_size=3),
    count=st.integers(0, 2**64 - 1),
    double=st.floats(allow_nan=False),
    nothing=st.none(),
)


@given(EVERYTHING)
def test_every_kind_of_value_comes_back(value: Everything) -> None:
    assert bare.decode(bare.encode(value, Everything), Everything) == value


@given(EVERYTHING, st.data())
def test_a_value_cut_short_or_followed_by_more_is_refused(value: Everything, data: st.DataObject) -> None:
    encoding = bare.encode(value, Everything)
    cut = data.draw(st.integers(0, len(encoding) - 1))
    with pytest.raises(DecodeError):
        bare.decode(encoding[:cut], Everything)
    with pytest.raises(DecodeError, match="behind"):
        bare.decode(encoding + b"\0", Everything)
    assert bare.decode(encoding + b"\0", Everything, trailing=True) == value


@given(EVERYTHING, st.data())
def test_spoilt_bytes_cause_a_decode_error_or_another_value(value: Everything, data: st.DataObject) -> None:
    encoding = bytearray(bare.encode(value, Everything))
    for place in data.draw(st.lists(st.integers(0, len(encoding) - 1), min_size=1, max_size=4)):
        encoding[place] = data.draw(st.integers(0, 255))
    assert outcome(bytes(encoding), Everything, trailing=False) is not None


@given(st.binary(max_size=200), st.sampled_from([Everything, Shape, RelayInfo, list[str], dict[str, UInt]]))
def test_random_bytes_cause_a_decode_error_or_a_value(data: bytes, kind: Any) -> None:
    assert outcome(data, kind, trailing=True) is not None
