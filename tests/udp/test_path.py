"""How a path paces, grows, proves and gives up: a state machine with a made-up clock."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from ockamlite.errors import LinkBrokenError
from ockamlite.limits import LIMITS
from ockamlite.wire.datagram_path import (
    KEEPALIVE_S,
    PROBED_BYTES,
    SILENCE_S,
    Advance,
    DatagramPath,
)
from ockamlite.wire.datagrams import SMALL_DATAGRAM_BYTES, Dialect, decode_piece
from ockamlite.wire.heartbeats import Heartbeat, Kind, decode_heartbeat, encode_heartbeat
from ockamlite.wire.reassembly import Reassembler

if TYPE_CHECKING:
    from collections.abc import Callable

ROOM = 65_536


M1_BYTES, M2_BYTES = 91, 486
"""The first message of a Rust peer's handshake and its answer, as datagrams."""


def path(*, dialled: bool, advance: float = 0.0, largest: int = PROBED_BYTES[-1]) -> DatagramPath:
    tokens = itertools.count(1)
    return DatagramPath(
        LIMITS,
        dialect=Dialect.B,
        number=65_530,
        token=lambda: next(tokens).to_bytes(8, "big"),
        now=0.0,
        dialled=dialled,
        offer=b"dialler!" if dialled else b"listener",
        advance=Advance(advance, 0.0),
        largest=largest,
    )


class Wire:
    """Two paths, what passes between them, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.here, self.there = path(dialled=True), path(dialled=False)
        self.passes: Callable[[bytes], bool] = lambda _: True
        self.came: list[bytes] = []
        self.seen: list[bytes] = []
        self._pieces = Reassembler(LIMITS, peer_bytes=1 << 25, all_bytes=1 << 26, peers=2, repeats=256)

    def run(self) -> None:
        """Carry datagrams until both are silent; a millisecond each way."""
        moved = True
        while moved:
            moved = False
            for sender, receiver in ((self.here, self.there), (self.there, self.here)):
                while (datagram := sender.next_datagram(self.now)) is not None:
                    moved = True
                    self.seen.append(datagram)
                    if self.passes(datagram):
                        self._take(datagram, sender, receiver)
                self.now += 0.001

    def _take(self, datagram: bytes, sender: DatagramPath, receiver: DatagramPath) -> None:
        piece = decode_piece(datagram)
        receiver.received(len(datagram), piece.dialect, self.now)
        message = self._pieces.add(id(sender), piece, self.now)
        if message is None:
            return
        heartbeat = decode_heartbeat(message)
        if heartbeat is None:
            self.came.append(message)
        elif heartbeat.kind is Kind.ASK:
            receiver.asked(heartbeat, len(datagram), room=ROOM, now=self.now)
        else:
            receiver.answered(heartbeat, self.now)


@pytest.fixture
def wire() -> Wire:
    """Two nodes that have got to know each other."""
    made = Wire()
    made.here.hello(0.0)
    made.run()
    return made


def test_two_nodes_prove_themselves_and_find_the_largest_datagram(wire: Wire) -> None:
    assert wire.here.is_proven
    assert wire.there.is_proven
    assert wire.here.speaks_heartbeats
    assert wire.there.speaks_heartbeats
    assert 16_000 < wire.here.datagram_bytes <= PROBED_BYTES[-1]
    assert 16_000 < wire.there.datagram_bytes <= PROBED_BYTES[-1]


def test_where_large_datagrams_are_lost_smaller_ones_are_used() -> None:
    narrow = Wire()
    narrow.passes = lambda datagram: len(datagram) <= 1472
    narrow.here.hello(0.0)
    narrow.run()
    assert 1440 <= narrow.here.datagram_bytes <= 1472


def test_when_the_way_becomes_narrower_messages_arrive_again_soon(wire: Wire) -> None:
    wire.passes = lambda datagram: len(datagram) <= 1000
    for _ in range(200):
        wire.now += 0.1
        wire.here.send(bytes(20_000))
        wire.run()
        wire.here.on_timer(wire.now)
        if wire.came:
            break
    assert wire.came
    assert wire.here.datagram_bytes == SMALL_DATAGRAM_BYTES


def test_a_datagram_that_the_system_refuses_is_not_tried_again() -> None:
    here = path(dialled=True)
    here.too_large(1232, 0.0)
    assert here.datagram_bytes == SMALL_DATAGRAM_BYTES
    here.datagram_bytes = 1452
    here.too_large(1400, 0.0)
    assert here.datagram_bytes == SMALL_DATAGRAM_BYTES


def test_no_more_is_under_way_than_the_other_end_has_room_for(wire: Wire) -> None:
    wire.here.send(bytes(1_000_000))
    sent = 0
    while (datagram := wire.here.next_datagram(wire.now)) is not None:
        sent += len(datagram)
    assert ROOM // 2 < sent <= ROOM + 1000  # and a few questions
    assert wire.here.next_timer() < wire.now + 1.0


def test_a_standstill_ends_the_link_after_the_stated_time(wire: Wire) -> None:
    wire.passes = lambda _: False
    wire.here.send(bytes(1_000_000))
    wire.run()
    began = wire.now
    error = None
    while error is None:
        wire.now = wire.here.next_timer()
        error = wire.here.on_timer(wire.now)
        wire.run()
    assert isinstance(error, LinkBrokenError)
    assert "took nothing" in str(error)
    assert wire.now - began < LIMITS.link_stall_s + 1.0


def test_towards_other_nodes_datagrams_are_small_and_leave_at_a_rate() -> None:
    here = path(dialled=True)
    here.hello(0.0)
    here.send(bytes(1_000_000))
    now, sent, largest = 0.0, 0, 0
    while here.queued_bytes:
        while (datagram := here.next_datagram(now)) is not None:
            sent += len(datagram)
            largest = max(largest, len(datagram))
        assert sent <= 32 * 1024 + 2_000_000 * now + 4 * SMALL_DATAGRAM_BYTES  # the questions
        now = here.next_timer()
        here.on_timer(now)
    assert largest <= SMALL_DATAGRAM_BYTES
    assert now < 0.6


def test_who_answers_no_question_is_not_asked_for_ever() -> None:
    here = path(dialled=True)
    here.hello(0.0)
    asked = 0
    for _ in range(20):
        while here.next_datagram(0.0) is not None:
            asked += 1
        now = here.next_timer()
        if now == float("inf"):
            break
        assert here.on_timer(now) is None
    assert asked == 4
    assert here.next_timer() == float("inf")


def test_an_idle_link_costs_a_heartbeat_in_twenty_seconds_and_a_silent_one_ends(wire: Wire) -> None:
    wire.seen.clear()
    end = wire.now + 10 * KEEPALIVE_S
    while (due := min(wire.here.next_timer(), wire.there.next_timer())) < end:
        wire.now = due
        assert wire.here.on_timer(wire.now) is None
        assert wire.there.on_timer(wire.now) is None
        wire.run()
    assert 18 <= len(wire.seen) <= 42
    assert max(map(len, wire.seen)) <= 90
    wire.passes = lambda _: False
    began = wire.now
    error = None
    while error is None:
        wire.now = wire.here.next_timer()
        error = wire.here.on_timer(wire.now)
        wire.run()
    assert "silent" in str(error)
    assert wire.now - began <= SILENCE_S


def test_an_accepted_link_that_brings_nothing_ends() -> None:
    there = path(dialled=False)
    assert there.next_timer() == LIMITS.datagram_idle_s
    assert "nothing came" in str(there.on_timer(LIMITS.datagram_idle_s))


def test_an_unproven_address_gets_no_more_than_it_sent_until_it_is_proven() -> None:
    there = path(dialled=False)
    there.received(100, Dialect.B, 0.0)
    for _ in range(100):
        there.send(bytes(60))
    sent = 0
    while (datagram := there.next_datagram(0.0)) is not None:
        sent += len(datagram)
    assert 0 < sent <= 100
    there.received(100, Dialect.B, 1.0)
    while (datagram := there.next_datagram(1.0)) is not None:
        sent += len(datagram)
    assert 100 < sent <= 200
    there.is_proven = True
    while (datagram := there.next_datagram(2.0)) is not None:
        sent += len(datagram)
    assert sent >= 100 * 60, "what waited for the proof has left"


def test_one_address_draws_no_more_of_the_advance_than_the_answer_of_a_handshake() -> None:
    there = path(dialled=False, advance=1e6)
    there.received(M1_BYTES, Dialect.B, 0.0)
    for _ in range(100):
        there.send(bytes(200))
    sent = sum(len(datagram) for datagram in iter(lambda: there.next_datagram(0.0), None))
    most = M1_BYTES + LIMITS.datagram_advance_bytes
    assert most - 220 < sent <= most


def test_the_advance_answers_one_handshake_but_not_a_flood_of_them() -> None:
    shared = Advance(2000.0, 0.0)
    answered = 0
    for _ in range(50):
        there = path(dialled=False)
        there._advance = shared
        there.received(M1_BYTES, Dialect.B, 0.0)
        there.send(bytes(M2_BYTES - 12))
        answered += there.next_datagram(0.0) is not None
    assert answered == 2000 // (M2_BYTES - M1_BYTES)
    later = path(dialled=False)
    later._advance = shared
    later.received(M1_BYTES, Dialect.B, 5.0)
    later.send(bytes(M2_BYTES - 12))
    assert later.next_datagram(5.0) is not None


def test_who_uses_an_address_only_we_could_tell_it_is_proven() -> None:
    there = path(dialled=False)
    there.addressed(b"a worker of long name")
    there.disclosed(b"a worker of long name")
    there.addressed(b"a worker of long name")
    assert not there.is_proven, "a name known before proves nothing"
    there.disclosed(b"short")
    there.addressed(b"short")
    assert not there.is_proven, "a short one can be guessed"
    there.disclosed(b"0123456789abcdef")
    there.addressed(b"0123456789abcdef")
    assert there.is_proven


def test_an_answer_nobody_asked_for_changes_nothing(wire: Wire) -> None:
    before = wire.here.proof
    wire.here.answered(Heartbeat(Kind.ANSWER, b"unasked!", offer=b"another!", room=1), wire.now)
    assert wire.here.proof == before
    stranger = path(dialled=False)
    stranger.received(60, Dialect.B, 0.0)
    stranger.answered(Heartbeat(Kind.ANSWER, b"unasked!", offer=b"another!", room=1), 0.0)
    assert not stranger.is_proven


def test_no_answer_is_longer_than_its_question() -> None:
    there = path(dialled=False)
    ask = Heartbeat(Kind.ASK, b"question")
    size = len(encode_heartbeat(ask))
    there.received(size, Dialect.B, 0.0)
    there.asked(ask, size, room=1, now=0.0)
    assert there.next_datagram(0.0) is None
    there.asked(ask, 508, room=1, now=0.0)
    there.received(508, Dialect.B, 0.0)
    answer = there.next_datagram(0.0)
    assert answer is not None
    assert len(answer) < 508


def test_a_bye_needs_the_proof(wire: Wire) -> None:
    assert path(dialled=True).bye() is None, "there is nothing to show yet"
    bye = wire.here.bye()
    assert bye is not None
    heartbeat = decode_heartbeat(decode_piece(bye).data)
    assert heartbeat is not None
    assert wire.there.is_genuine(heartbeat)
    assert not wire.there.is_genuine(Heartbeat(Kind.BYE, bytes(8), bytes(8)))
