"""Datagrams byte for byte as Ockam's Rust code writes them (vectors), in both dialects, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.cbor import bytes_head
from ockamlite.errors import DecodeError
from ockamlite.limits import LIMITS
from ockamlite.routing.codec import encode_message_head
from ockamlite.routing.route import Route
from ockamlite.wire.datagrams import (
    OVERHEAD_BYTES,
    SMALL_DATAGRAM_BYTES,
    Dialect,
    Piece,
    decode_piece,
    encode_piece,
    split,
)
from ockamlite.wire.reassembly import Reassembler

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "udp.json").read_text())
BETTER = {
    # Rust loses these messages; nothing forces us to.
    "a piece twice": 1,
    "a number far behind": 1,
    "empty last piece": 1,
    "four pieces behind the newest": 3,
    "five and more behind": 3,
    "a jump of 32767": 1,
    "65533, older than the first": 1,
}
"""What we deliver where it is more than Rust does."""


def reassembler() -> Reassembler:
    return Reassembler(LIMITS, peer_bytes=1 << 25, all_bytes=1 << 26, peers=16, repeats=256)


def deliver(into: Reassembler, datagrams: list[bytes], now: float = 0.0) -> list[bytes]:
    messages = []
    for datagram in datagrams:
        try:
            message = into.add("peer", decode_piece(datagram), now)
        except DecodeError:
            continue
        if message is not None:
            messages.append(message)
    return messages


def routing_message(payload: bytes) -> bytes:
    """As Rust writes it in the vectors: with a tracing context."""
    head = b"\x84" + encode_message_head(Route.of("echoer"), Route.of("a"))[1:]
    return head + bytes_head(len(payload)) + payload + b"\x62{}"


@pytest.mark.parametrize("case", VECTORS["sent"], ids=lambda case: str(case["payload_length"]))
def test_what_rust_sends_is_put_together(case: dict[str, Any]) -> None:
    payload = bytes((i * 7 + 3) % 256 for i in range(case["payload_length"]))
    datagrams = [bytes.fromhex(text) for text in case["datagrams"]]
    assert deliver(reassembler(), datagrams) == [routing_message(payload)]


@pytest.mark.parametrize("case", VECTORS["sent"], ids=lambda case: str(case["payload_length"]))
def test_we_cut_as_rust_does_but_for_an_empty_last_piece(case: dict[str, Any]) -> None:
    theirs = [bytes.fromhex(text) for text in case["datagrams"]]
    first = decode_piece(theirs[0])
    message = b"".join(decode_piece(datagram).data for datagram in theirs)
    ours = list(split(message, first.number, Dialect.B, SMALL_DATAGRAM_BYTES))
    if not decode_piece(theirs[-1]).data:
        assert [decode_piece(datagram).data for datagram in ours] == [
            decode_piece(datagram).data for datagram in theirs[:-1]
        ]
    else:
        assert ours == theirs


@pytest.mark.parametrize("case", VECTORS["received"], ids=lambda case: str(case["name"]))
def test_what_rust_takes_we_take_and_some_more(case: dict[str, Any]) -> None:
    fresh = reassembler()
    known = VECTORS["received"][: VECTORS["received"].index(case)]
    if "it arrives later" in case["name"]:
        deliver(fresh, [bytes.fromhex(text) for text in known[-1]["datagrams"]])
    datagrams = [bytes.fromhex(text) for text in case["datagrams"]]
    assert len(deliver(fresh, datagrams)) == BETTER.get(case["name"], case["delivered"])


def test_dialect_a_says_where_a_piece_begins_and_which_is_the_last() -> None:
    small = list(split(bytes(35), 0x1234, Dialect.A, SMALL_DATAGRAM_BYTES))
    assert [datagram[:-35].hex() for datagram in small] == ["850119123400f55823"]
    large = list(split(bytes(1024), 7, Dialect.A, SMALL_DATAGRAM_BYTES))
    heads = ["85010700f45901ed", "8501071901edf45901ed", "8501071903daf55826"]
    assert [datagram.hex()[: len(head)] for datagram, head in zip(large, heads, strict=True)] == heads
    assert [len(datagram) for datagram in large] == [501, 503, 47]
    assert deliver(reassembler(), large) == [bytes(1024)]


@given(
    message=st.binary(min_size=1, max_size=3000),
    number=st.integers(0, 0xFFFF),
    dialect=st.sampled_from(Dialect),
    size=st.integers(OVERHEAD_BYTES + 1, 600),
    data=st.data(),
)
def test_pieces_in_any_order_with_repetitions_make_the_message_once(
    message: bytes, number: int, dialect: Dialect, size: int, data: st.DataObject
) -> None:
    datagrams = list(split(message, number, dialect, size))
    assert all(0 < len(datagram) <= size for datagram in datagrams)
    assert all(decode_piece(datagram).data for datagram in datagrams)
    again = data.draw(st.lists(st.sampled_from(datagrams), max_size=5))
    order = data.draw(st.permutations(datagrams + again))
    assert deliver(reassembler(), order) == [message]


@given(
    dialect=st.sampled_from(Dialect),
    number=st.integers(0, 0xFFFF),
    place=st.integers(0, 0xFFFE),
    more=st.integers(1, 0xFFFF),
    data=st.binary(min_size=1, max_size=300),
)
def test_a_piece_is_read_as_it_was_written(
    dialect: Dialect, number: int, place: int, more: int, data: bytes
) -> None:
    total = more % 2 if dialect is Dialect.A else min(place + more, 0xFFFF)
    piece = Piece(dialect, number, place, total, data)
    assert decode_piece(encode_piece(piece)) == piece


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda tail: b"\x85\x01" + tail)))
def test_arbitrary_bytes_are_a_piece_or_a_decode_error(datagram: bytes) -> None:
    try:
        piece = decode_piece(datagram)
    except DecodeError:
        return
    reassembler().add("peer", piece, 0.0)


@pytest.mark.parametrize(
    "hexes",
    ["", "80", "8401000041aa", "850100000041aa", "85010101014100", "8501f6000141aa", "85012000f541aa"],
)
def test_malformed_datagrams_are_refused(hexes: str) -> None:
    with pytest.raises(DecodeError):
        decode_piece(bytes.fromhex(hexes))
