"""What is inside a packet: the bytes of Rust peers both ways, other legal encodings, and the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.cbor import bytes_head, decode
from ockamlite.errors import DecodeError, RemoteError
from ockamlite.limits import LIMITS
from ockamlite.routing.address import Address
from ockamlite.routing.codec import RouteMemory
from ockamlite.routing.route import Route
from ockamlite.secure_channels.message import (
    NO_PADDING,
    Application,
    Close,
    Refresh,
    application_prefix,
    decode_application_head,
    decode_message,
    encode_message,
    padding_for,
)

CASES = json.loads((Path(__file__).parents[1] / "vectors/handshake.json").read_text())["cases"]
RECORDED = [
    bytes.fromhex(packet["plaintext"])
    for case in CASES
    for direction in ("initiator_to_responder", "responder_to_initiator")
    for packet in case[direction]["packets"]
]
ECHO = Application(Route.of("echo"), Route.of("0123456789abcdef0123456789abcdef"), b"\x05hello")
ECHO_WIRE = bytes.fromhex(
    "8282008183"
    "81820044 6563686f"
    "8182005820 3031323334353637383961626364656630313233343536373839616263646566"
    "46 0568656c6c6f"
    "40"
)

routes = st.lists(st.builds(Address, st.integers(0, 255), st.binary(max_size=300)), max_size=30).map(Route)
applications = st.builds(Application, routes, routes, st.binary(max_size=70_000))
arrays = st.lists(st.binary(max_size=40), max_size=8).map(
    lambda items: bytes((0x80 | len(items),)) + b"".join(bytes_head(len(i)) + i for i in items)
)
refreshes = st.builds(Refresh, arrays, st.lists(arrays, max_size=8).map(tuple))


def test_every_kind_of_message_that_rust_recorded_is_among_the_vectors() -> None:
    assert {type(decode_message(wire)) for wire in RECORDED} == {Application, Refresh, Close}


@pytest.mark.parametrize("wire", sorted(set(RECORDED))[::20] + [w for w in RECORDED if w[2] != 0])
def test_a_recorded_message_is_read_and_written_alike(wire: bytes) -> None:
    message = decode_message(wire)
    assert encode_message(message) == wire
    if isinstance(message, Refresh):
        assert decode(message.history)
        assert [type(decode(credential)) for credential in message.credentials] == [list]


def test_the_layout_of_an_application_message() -> None:
    assert encode_message(ECHO) == ECHO_WIRE
    assert application_prefix(*ECHO[:2], 6) + b"\x05hello" + NO_PADDING == ECHO_WIRE
    assert decode_message(ECHO_WIRE) == ECHO
    assert encode_message(Close()) == bytes.fromhex("8282028040")
    assert encode_message(Refresh(b"\x81\x01", (b"\x82\x02\x03", b"\x80"))) == bytes.fromhex(
        "82 82 01 81 82 8101 82 820203 80 40"
    )


@given(st.one_of(applications, refreshes, st.just(Close())), st.booleans())
def test_any_message_survives_the_round_trip(message: Application | Refresh | Close, pad: bool) -> None:
    assert decode_message(encode_message(message, pad=pad)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_remote_error(data: bytes) -> None:
    memory = RouteMemory()
    prefixes = ("", "82", "8282008183", "828201818280", "82820280", "9f82009f9f", "828200818380804040")
    for prefix in map(bytes.fromhex, prefixes):
        for _ in range(2):
            try:
                decode_application_head(prefix + data, memory)
                decode_message(prefix + data)
            except RemoteError:
                continue


@pytest.mark.parametrize(
    "wire",
    [
        "9f 8200 81 83 80 80 4161 40 ff",  # indefinite arrays
        "82 8200 9f 83 80 80 4161 ff 40",
        "82 8200 81 9f 80 80 4161 ff 40",
        "82 8200 81 83 9fff 80 4161 40",
        "83 8200 81 83 80 80 4161 40 f6",  # slots unknown to us
        "82 8200 82 83 80 80 4161 a10102 40",
        "82 8200 81 84 80 80 4161 627b7d 40",
        "9f 8200 9f 9f 80 80 4161 01 02 ff 03 ff 40 04 ff",
        "82 821800 81 83 80 80 4161 40",  # longer integers and lengths than needed
        "82 82190000 81 83 80 80 580161 40",
        "9802 980200 9801 9803 80 80 59000161 5800",
        "82 8200 81 83 80 80 4161 43000000",  # padding
        "82 8200 81 83 80 80 4161 40 ffff",  # bytes behind the message
    ],
)
def test_any_encoding_that_rust_accepts_is_read(wire: str) -> None:
    plaintext = bytes.fromhex(wire)
    assert decode_message(plaintext) == Application(Route(), Route(), b"a")
    memory = RouteMemory()
    for _ in range(2):
        head = decode_application_head(plaintext, memory)
        assert head is not None
        onward, back, start, end = head
        assert (onward, back, plaintext[start:end]) == ((), (), b"a")


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ("9f 8202 80 40 ff", Close()),
        ("82 8202 8101 40", Close()),
        ("82 8202 9fff 40", Close()),
        ("82 8201 81 82 80 80 40", Refresh(b"\x80", ())),
        (
            "82 8201 9f 9f 8101 9f 8102 9f03ff ff 05 ff ff 40",
            Refresh(b"\x81\x01", (b"\x81\x02", b"\x9f\x03\xff")),
        ),
    ],
)
def test_refresh_and_close_too(wire: str, message: Refresh | Close) -> None:
    assert decode_message(bytes.fromhex(wire)) == message
    assert decode_application_head(bytes.fromhex(wire)) is None


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "80",
        "81 8202 80",  # no padding
        "81 8202 80 40",
        "82 8202 80",
        "82 8202 80 60",
        "82 8202 80 f6",
        "82 8202 40",  # no fields
        "82 02 40",  # no variant
        "82 9f0280ff 40",  # a variant is a definite pair
        "82 83028040 40",
        "82 8203 80 40",  # unknown
        "82 8220 80 40",
        "82 82f4 81 83 80 80 4161 40",  # false is no variant
        "82 8200 80 40",
        "82 8200 81 82 80 80 40",
        "82 8200 81 83 80 80 6161 40",
        "82 8200 81 83 80 80 f6 40",
        "82 8200 81 83 f6 80 4161 40",
        "82 8200 81 83 80 80 5f4161ff 40",
        "82 8200 81 83 80 80 4161 80",
        "82 8200 81 83 80 80 4161",
        "82 8201 81 81 80 40",  # no credentials
        "82 8201 81 82 01 80 40",  # a history is an array
        "82 8201 81 82 80 8101 40",
        "82 8201 81 82 80 9f80 40",
        "a2 00 8202 80 01 40",
        "c1 82 8202 80 40",
        "00 82 82 02 80 40",
    ],
)
def test_anything_else_is_refused(wire: str) -> None:
    with pytest.raises(DecodeError):
        decode_message(bytes.fromhex(wire))


def test_a_message_cut_anywhere_is_refused() -> None:
    for wire in (ECHO_WIRE, *(w for w in RECORDED if w[2] != 0)):
        for cut in range(len(wire)):
            with pytest.raises(DecodeError):
                decode_message(wire[:cut])


def test_a_known_head_does_not_excuse_what_follows() -> None:
    memory = RouteMemory()
    for payload in (b"a", b"", bytes(30), bytes(300), bytes(70_000)):
        wire = encode_message(ECHO._replace(payload=payload))
        found = decode_application_head(wire, memory)
        assert found is not None
        assert wire[found[2] : found[3]] == payload
        assert found[:2] == ECHO[:2]
        for spoiled in (wire[:-1], wire[:-1] + b"\x41", wire[:-1] + b"\x60", wire[: len(wire) // 2]):
            with pytest.raises(DecodeError):
                decode_application_head(spoiled, memory)


def test_a_refresh_has_as_many_credentials_as_the_limit_says_and_no_more() -> None:
    most = LIMITS.credentials
    fits = encode_message(Refresh(b"\x80", (b"\x80",) * most))
    assert decode_message(fits) == Refresh(b"\x80", (b"\x80",) * most)
    for wire in (
        encode_message(Refresh(b"\x80", (b"\x80",) * (most + 1))),
        bytes.fromhex("8282018182809f") + b"\x80" * (most + 1) + b"\xff\x40",
    ):
        with pytest.raises(DecodeError, match="credentials"):
            decode_message(wire)


def test_a_route_beyond_the_limit_is_refused() -> None:
    with pytest.raises(DecodeError, match="hops"):
        decode_message(encode_message(ECHO._replace(onward=Route.of(*["x"] * (LIMITS.route_hops + 1)))))


def bytes_of(padding: bytes) -> bytes:
    value = decode(padding)
    assert isinstance(value, bytes)
    return value


def test_w13_padding_hides_lengths_in_buckets() -> None:
    buckets = (64, 256, 1024, 4096, 16_384)
    sizes = set()
    for length in range(20_000):
        padding = padding_for(length)
        total = length + len(padding)
        # A few sizes just below a bucket are out of reach of the shortest head of a byte string.
        least = next((b for b in buckets if b > length), 32_768)
        assert total == least or least - length in (25, 258)
        assert set(bytes_of(padding)) <= {0}
        sizes.add(total)
    assert sizes == {*buckets, 32_768}
    assert len(padding_for(49_200)) == 65_536 - 49_200
    assert (70_000 + len(padding_for(70_000))) % 16_384 == 0


def test_w13_two_messages_of_one_bucket_have_the_same_length() -> None:
    lengths = {len(encode_message(ECHO._replace(payload=bytes(n)), pad=True)) for n in range(150)}
    assert lengths == {64, 256}
    assert len(encode_message(Close(), pad=True)) == 64


def test_a_payload_is_not_copied_out_of_the_plaintext() -> None:
    message = decode_message(encode_message(ECHO))
    assert isinstance(message, Application)
    assert isinstance(message.payload, memoryview)
