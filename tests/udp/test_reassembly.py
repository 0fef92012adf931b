"""Reassembly under attack and loss: bounded in bytes, messages, peers and time; nothing mixed up."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from ockamlite.limits import LIMITS
from ockamlite.wire.datagrams import Dialect, Piece, decode_piece, split
from ockamlite.wire.reassembly import DONE_S, Reassembler

SMALL = dataclasses.replace(LIMITS, message_bytes=10_000, datagram_messages_per_peer=4)
PEER_BYTES = 20_000
ALL_BYTES = 50_000


def reassembler(peers: int = 16) -> Reassembler:
    return Reassembler(SMALL, peer_bytes=PEER_BYTES, all_bytes=ALL_BYTES, peers=peers, repeats=256)


def pieces(message: bytes, number: int, dialect: Dialect = Dialect.B, size: int = 115) -> list[Piece]:
    return [decode_piece(datagram) for datagram in split(message, number, dialect, size)]


def test_a_flood_of_first_pieces_from_many_peers_stays_within_the_bound() -> None:
    many = reassembler(peers=100_000)
    for peer in range(2000):
        many.add(peer, Piece(Dialect.B, peer % 65536, 0, 9, bytes(1000)), 0.0)
        assert many.pending_bytes <= ALL_BYTES
    few = reassembler(peers=50)
    for peer in range(2000):
        few.add(peer, Piece(Dialect.B, 1, 0, 9, b"x"), 0.0)
    assert few.peers == 50


def test_a_flood_of_tiny_pieces_from_one_peer_counts_what_they_really_cost() -> None:
    flooded = reassembler()
    for number in range(100):
        for index in range(200):
            flooded.add("peer", Piece(Dialect.B, number, index, 9999, b"x"), 0.0)
            assert flooded.pending_bytes <= PEER_BYTES


def test_one_peer_cannot_displace_the_message_of_another() -> None:
    shared = reassembler()
    first, *rest = pieces(b"m" * 300, 7)
    shared.add("honest", first, 0.0)
    for number in range(3000):
        shared.add("hostile", Piece(Dialect.B, number, 0, 100, bytes(500)), 0.0)
    assert [shared.add("honest", piece, 0.0) for piece in rest][-1] == b"m" * 300


def test_unfinished_messages_are_dropped_after_a_while() -> None:
    late = reassembler()
    first, *rest = pieces(b"m" * 300, 7)
    late.add("peer", first, 0.0)
    late.expire(SMALL.datagram_reassembly_s - 0.01)
    assert late.pending_bytes
    late.expire(SMALL.datagram_reassembly_s)
    assert late.pending_bytes == 0
    assert [late.add("peer", piece, 6.0) for piece in rest] == [None, None]


def test_of_a_peer_that_is_silent_nothing_is_kept() -> None:
    kept = reassembler()
    for peer in range(10):
        for number in range(10):
            kept.add(peer, pieces(b"whole", number)[0], 0.1 * peer)
        kept.add(peer, pieces(b"m" * 300, 10)[0], 0.1 * peer)
    late = max(SMALL.datagram_reassembly_s, DONE_S)
    kept.expire(late + 0.45)
    assert kept.peers == 5
    kept.expire(late + 1.0)
    assert (kept.peers, kept.pending_bytes) == (0, 0)


def test_the_whole_messages_remembered_of_many_strangers_take_a_bounded_memory() -> None:
    strangers = Reassembler(SMALL, peer_bytes=20_000, all_bytes=50_000, peers=1024, repeats=16)
    for peer in range(1100):
        for number in range(100):
            strangers.add(peer, Piece(Dialect.B, number, 0, 1, b"x"), 0.0)
    assert strangers.peers == 1024
    assert max(len(peer.done) for peer in strangers._peers.values()) == 16


def test_the_message_begun_first_gives_way_to_newer_ones() -> None:
    full = reassembler()
    cut = [pieces(bytes([number]) * 300, number) for number in range(6)]
    for first, *_ in cut:
        full.add("peer", first, 0.0)
    finished = [[full.add("peer", piece, 0.0) for piece in rest][-1] for _, *rest in cut]
    assert finished == [None, None, *(bytes([number]) * 300 for number in range(2, 6))]


def test_a_repetition_is_dropped_and_a_number_used_again_later_is_not() -> None:
    again = reassembler()
    (piece,) = pieces(b"one", 9)
    assert again.add("peer", piece, 0.0) == b"one"
    assert again.add("peer", piece, 1.0) is None
    assert again.add("other", piece, 1.0) == b"one"
    assert again.add("peer", piece, 60.0) == b"one"


def test_a_peer_that_starts_anew_with_an_older_number_is_heard() -> None:
    restarted = reassembler()
    assert restarted.add("peer", pieces(b"before", 40_000)[0], 0.0) == b"before"
    assert [restarted.add("peer", piece, 1.0) for piece in pieces(b"m" * 300, 9)][-1] == b"m" * 300


def test_pieces_of_a_message_a_round_of_numbers_later_are_not_mixed_with_old_ones() -> None:
    round_ = reassembler()
    old, new = pieces(b"o" * 300, 5), pieces(b"n" * 300, 5)
    round_.add("peer", old[0], 0.0)
    for number in range(6, 65_536 + 5, 1000):
        round_.add("peer", pieces(b"x", number % 65_536)[0], 0.0)
    round_.add("peer", old[1], 0.0)  # a straggler
    assert round_.add("peer", new[2], 0.0) is None


def test_a_message_longer_than_the_limit_is_dropped_at_once() -> None:
    for dialect in Dialect:
        bounded = Reassembler(SMALL, peer_bytes=1 << 20, all_bytes=1 << 20, peers=1, repeats=256)
        most = 0
        for piece in pieces(bytes(20_000), 1, dialect, 515):
            assert bounded.add("peer", piece, 0.0) is None
            most = max(most, bounded.pending_bytes)
        assert most <= 2 * SMALL.message_bytes


def test_a_single_piece_longer_than_the_limit_is_dropped() -> None:
    assert reassembler().add("peer", Piece(Dialect.B, 1, 0, 1, bytes(10_001)), 0.0) is None


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.builds(
                Piece,
                dialect=st.sampled_from(Dialect),
                number=st.integers(0, 5),
                place=st.integers(0, 4),
                total=st.integers(0, 5),
                data=st.binary(max_size=4),
            ).filter(lambda piece: piece.dialect is Dialect.A or piece.place < piece.total),
            st.floats(0, 3),
        ),
        max_size=60,
    )
)
def test_whatever_comes_the_books_balance(steps: list[tuple[int, Piece, float]]) -> None:
    hostile = reassembler()
    now = 0.0
    for peer, piece, later in steps:
        now += later
        hostile.add(peer, piece, now)
    hostile.expire(now + 100)
    assert hostile.pending_bytes == 0
    assert not any(hostile.has_begun(peer, number) for peer in range(3) for number in range(6))
