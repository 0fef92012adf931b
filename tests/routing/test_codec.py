"""Routing messages on the wire: the bytes of Rust peers, both ways, and every malformed input."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.cbor import bytes_head
from ockamlite.errors import DecodeError, RemoteError
from ockamlite.limits import LIMITS
from ockamlite.routing.address import Address
from ockamlite.routing.codec import (
    RouteMemory,
    decode_message,
    decode_route_at,
    encode_message_head,
    encode_route,
)
from ockamlite.routing.route import Route

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/routing.json").read_text())
SENT = [pytest.param(case, id=case["name"]) for case in VECTORS["frames_sent"]]
# Those whose length is right; the others are about the stream, not about messages.
RECEIVED = [
    pytest.param(case, id=case["name"])
    for case in VECTORS["frames_received"]
    if int(case["sent"][2:10] or "-1", 16) == len(case["sent"]) // 2 - 5
]

# Frames that Rust takes off the stream but does not deliver: legal messages with nowhere to go.
UNDELIVERABLE = {
    "empty onward route (heartbeat)",
    "unknown worker",
    "worker that is no consumer",
    "onward to a TCP address",
}

addresses = st.builds(Address, st.integers(0, 255), st.binary(max_size=300))
routes = st.lists(addresses, max_size=30).map(Route)


def route_of(entries: list[dict[str, Any]]) -> Route:
    return Route(Address(entry["transport_type"], bytes.fromhex(entry["body"])) for entry in entries)


def payload_of(case: dict[str, Any]) -> bytes:
    if "first_64" in "".join(case):
        return bytes((i * 7 + 3) % 256 for i in range(case["payload_length"]))
    return bytes.fromhex(case["payload"])


def message(onward: Route, return_route: Route, payload: bytes) -> bytes:
    return encode_message_head(onward, return_route) + bytes_head(len(payload)) + payload


@pytest.mark.parametrize("case", VECTORS["routes"])
def test_a_route_is_written_and_read_as_rust_does(case: dict[str, Any]) -> None:
    route, wire = route_of(case["addresses"]), bytes.fromhex(case["cbor"])
    assert encode_route(route) == wire
    assert decode_route_at(wire, 0) == (route, len(wire))


@pytest.mark.parametrize("case", SENT)
def test_what_rust_sends_is_read_and_written_alike(case: dict[str, Any]) -> None:
    onward, back, payload = route_of(case["onward_route"]), route_of(case["return_route"]), payload_of(case)
    ours = message(onward, back, payload)
    if "frame" in case:
        frame = bytes.fromhex(case["frame"])[4:]
        assert decode_message(frame) == (onward, back, payload)
        assert decode_message(memoryview(frame)) == (onward, back, payload)
        # Rust adds a tracing context as a fourth slot; the rest is ours to the byte.
        assert frame[1:].startswith(ours[1:])
        assert (frame[0], ours[0]) == (0x84, 0x83)
    else:
        frame = b"\x84" + ours[1:] + b"\x62{}"
        assert len(frame) == case["frame_length"] - 4
        whole = len(frame).to_bytes(4, "big") + frame
        assert hashlib.sha256(whole).hexdigest() == case["frame_sha256"]
        assert decode_message(frame) == (onward, back, payload)


@pytest.mark.parametrize("case", RECEIVED)
def test_we_accept_and_refuse_what_rust_does(case: dict[str, Any]) -> None:
    frame = bytes.fromhex(case["sent"])[5:]
    delivered = case["delivered"]
    if delivered is None and case["name"] not in UNDELIVERABLE:
        with pytest.raises(DecodeError):
            decode_message(frame)
        return
    onward, back, payload = decode_message(frame)
    if delivered is not None:
        assert [str(hop) for hop in onward] == delivered["onward_route"]
        # The receiver had pushed its own address.
        assert len(back) == delivered["return_route"] - 1
        assert bytes(payload).hex() == delivered["payload"]


@given(onward=routes, back=routes, payload=st.binary(max_size=70_000))
def test_any_message_survives_the_round_trip(onward: Route, back: Route, payload: bytes) -> None:
    assert decode_message(message(onward, back, payload)) == (onward, back, payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_decode_error(data: bytes) -> None:
    memory = RouteMemory()
    for prefix in (b"", b"\x83", b"\x83\x81\x82", b"\x84\x80\x80", b"\x9f\x9f", b"\x84\x80\x80\x40"):
        for _ in range(2):
            try:
                decode_message(prefix + data, memory)
            except RemoteError:
                continue


def test_a_message_cut_anywhere_is_refused() -> None:
    whole = message(Route.of("a", "b" * 40), Route.of("c"), b"payload")
    for cut in range(len(whole)):
        with pytest.raises(DecodeError):
            decode_message(whole[:cut])
        with pytest.raises(DecodeError):
            decode_message(memoryview(whole)[:cut])


@pytest.mark.parametrize(
    ("wire", "hops"),
    [
        ("9f820041618200 4162ff", 2),  # indefinite route
        ("819f00 4161ff", 1),  # indefinite address
        ("819f00 4161 01 f6 ff", 1),  # with slots unknown to us
        ("8184 00 4161 820102 f6", 1),
        ("8182 1800 4161", 1),  # longer than needed
        ("8182 190000 590001 61", 1),
        ("8182 1b0000000000000000 5b000000000000000161", 1),
        ("9801 82 00 4161", 1),
        ("990001 9802 00 4161", 1),
        ("80", 0),
        ("9fff", 0),
    ],
)
def test_a_route_in_any_encoding_that_rust_accepts_is_read(wire: str, hops: int) -> None:
    data = bytes.fromhex(wire)
    route, end = decode_route_at(data + b"\x40", 0)
    assert end == len(data)
    assert route == Route.of("a", "b")[:hops]


@pytest.mark.parametrize(
    "wire",
    [
        "8100",  # no address
        "8180",
        "8181 00 4161",
        "818100",
        "819fff",
        "819f00ff",
        "8182 20 4161",  # negative type
        "8182 190100 4161",  # 256
        "8182 f4 4161",  # false is no number
        "8182 00 6161",  # text
        "8182 00 5f4161ff",  # indefinite string
        "8182 00 f6",
        "8182 c100 4161",  # tag
        "a1 00 01",  # map
        "9f 820041 61",  # no break
        "81 9f 00 4161 01",
        "9bffffffffffffffff",
        "8182 00 5bffffffffffffffff",
        "f6",
        "",
    ],
)
def test_anything_else_in_place_of_a_route_is_refused(wire: str) -> None:
    with pytest.raises(DecodeError):
        decode_route_at(bytes.fromhex(wire), 0)


@pytest.mark.parametrize("indefinite", [False, True])
def test_a_route_has_as_many_hops_as_the_limit_says_and_no_more(*, indefinite: bool) -> None:
    for hops, fits in ((LIMITS.route_hops, True), (LIMITS.route_hops + 1, False)):
        wire = encode_route(Route.of(*["x"] * hops))
        if indefinite:
            wire = b"\x9f" + wire[2:] + b"\xff"
        if fits:
            assert len(decode_route_at(wire, 0)[0]) == hops
        else:
            with pytest.raises(DecodeError, match="hops"):
                decode_route_at(wire, 0)


@pytest.mark.parametrize(("size", "fits"), [(LIMITS.address_bytes, True), (LIMITS.address_bytes + 1, False)])
def test_an_address_is_as_long_as_the_limit_says_and_no_longer(size: int, *, fits: bool) -> None:
    wire = encode_route(Route.of("x" * size))
    if fits:
        assert decode_route_at(wire, 0) == (Route.of("x" * size), len(wire))
    else:
        with pytest.raises(DecodeError, match="address of"):
            decode_route_at(wire, 0)


@pytest.mark.parametrize("wire", ["80", "818040", "82808040", "9f8080ff40", "9f808040", "9f808040f6"])
def test_a_message_has_three_slots_at_least(wire: str) -> None:
    with pytest.raises(DecodeError):
        decode_message(bytes.fromhex(wire))


def test_slots_unknown_to_us_are_skipped_up_to_a_limit() -> None:
    head = b"\x85\x80\x80\x40\xf6"
    assert decode_message(head + b"\x59\x30\x00" + bytes(0x3000)) == (Route(), Route(), b"")
    with pytest.raises(DecodeError):
        decode_message(head + b"\x59\x40\x00" + bytes(0x4000))


def test_a_remembered_head_gives_the_same_answer_as_the_first_time() -> None:
    memory = RouteMemory()
    first = message(Route.of("a"), Route.of("b"), b"one")
    for payload in (b"one", b"", bytes(300), bytes(70_000)):
        wire = message(Route.of("a"), Route.of("b"), payload)
        assert decode_message(memoryview(wire), memory) == (Route.of("a"), Route.of("b"), payload)
    # A known head does not excuse what follows it.
    with pytest.raises(DecodeError):
        decode_message(first[:-4] + b"\x63one", memory)
    with pytest.raises(DecodeError):
        decode_message(first[:-1], memory)
    traced = b"\x84" + first[1:]
    assert decode_message(traced + b"\x62{}", memory) == decode_message(traced + b"\xf6", memory)
    for spoiled in (b"", b"\x42{}", b"\x01", b"\x62{"):
        with pytest.raises(DecodeError):
            decode_message(traced + spoiled, memory)


def test_a_peer_that_never_repeats_a_route_fills_no_memory() -> None:
    memory = RouteMemory()
    for number in range(1000):
        onward = Route.of("x" * (number % 97), str(number))
        wire = message(onward, Route(), b"p")
        assert decode_message(wire, memory) == (onward, Route(), b"p")
        assert len(memory._heads) <= RouteMemory.MOST_HEADS
        assert len(memory._lengths) <= RouteMemory.MOST_LENGTHS
        assert memory.find(wire) == (onward, Route(), len(wire) - 2)
    for number in range(200):
        wire = message(Route.of(f"{number:04}"), Route(), b"")
        decode_message(wire, memory)
        assert memory.find(wire) == (Route.of(f"{number:04}"), Route(), len(wire) - 1)
    long = encode_message_head(Route.of("x" * 600), Route())
    memory.keep(long, Route.of("x" * 600), Route())
    assert memory.find(long) is None
