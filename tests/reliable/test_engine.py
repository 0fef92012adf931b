"""One end of a reliable link against another, frame by frame: sessions, versions, limits, the end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

from ockamlite.bare import encode_uint
from ockamlite.errors import LocalError
from ockamlite.limits import LIMITS
from ockamlite.wire.reliable import frames
from ockamlite.wire.reliable.engine import ReliableLink
from ockamlite.wire.reliable.events import (
    LinkDown,
    LinkUp,
    MessageReceived,
    Parameters,
    PeerRestarted,
    VersionMismatch,
)
from ockamlite.wire.reliable.profile import BLE, SERIAL, Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Any]

SMALL = dataclasses.replace(LIMITS, reliable_message_bytes=4096, reliable_queue_bytes=8192)


def engine(session: int, profile: Profile = SERIAL, **options: Any) -> ReliableLink:
    return ReliableLink(profile, session=session, now=0.0, **options)


@pytest.fixture
def pair(joined: Make) -> tuple[ReliableLink, ReliableLink]:
    """Two ends that are up."""
    a, b = engine(1), engine(2)
    joined(a, b)
    assert a.is_up
    assert b.is_up
    return a, b


def messages(events: list[Any]) -> list[bytes]:
    return [event.message for event in events if isinstance(event, MessageReceived)]


# -- sessions --------------------------------------------------------------------------------------


def test_two_ends_that_speak_at_once_come_up_with_three_frames(joined: Make) -> None:
    a, b = engine(1), engine(2)
    (hello_a,), (hello_b,) = a.frames_to_send(0.0, 1000), b.frames_to_send(0.0, 1000)
    assert a.receive(hello_b, 0.0) == b.receive(hello_a, 0.0) == []
    told = joined(a, b)
    both = Parameters(1024, 16, 1 << 20)
    assert told == ([LinkUp(1, 2, both)], [LinkUp(1, 1, both)])


def test_both_ends_take_the_smaller_of_each_parameter(joined: Make) -> None:
    a = engine(1, dataclasses.replace(SERIAL, window=8, payload_accept=300))
    b = engine(2, dataclasses.replace(SERIAL, window=32), limits=SMALL)
    told = joined(a, b)
    assert told[0][0].parameters == told[1][0].parameters == Parameters(300, 8, 4096)


@pytest.mark.parametrize("lost", range(4))
def test_any_frame_of_the_beginning_may_be_lost(lost: int) -> None:
    a, b = engine(1), engine(2)
    now, number = 0.0, 0
    while now < 2.0:
        for sender, receiver in ((a, b), (b, a), (a, b)):
            for frame in sender.frames_to_send(now, 1000):
                if number != lost:
                    receiver.receive(frame, now)
                number += 1
        now = min(due for end in (a, b) if (due := end.next_timer()) is not None)
        for end in (a, b):
            end.on_timer(now)
    assert a.is_up
    assert b.is_up


def test_an_end_that_does_not_speak_first_is_silent_until_a_frame_comes(joined: Make) -> None:
    quiet = dataclasses.replace(SERIAL, speaks_first=False)
    a, b = engine(1, quiet), engine(2, quiet)
    assert joined(a, b) == ([], [])
    assert a.next_timer() is None
    c = engine(3)
    joined(a, c)
    assert a.is_up
    fresh = engine(4, quiet)
    c.on_timer(6.0)
    for frame in c.frames_to_send(6.0, 100):
        fresh.receive(frame, 6.0)
    told = joined(fresh, c, 6.0)
    assert fresh.is_up
    assert PeerRestarted() in told[1]


def test_a_restarted_peer_is_named_and_gets_nothing_of_the_old_session(
    pair: tuple[ReliableLink, ReliableLink], joined: Make, head: Make
) -> None:
    a, _ = pair
    for number in range(40):
        a.send(head("x", b"old %d" % number), b"old %d" % number, 0.0)
    old = a.frames_to_send(0.0, 10_000)
    b = engine(3)
    for frame in old:
        assert b.receive(frame, 0.0) == []
    told = joined(a, b)
    assert [type(event) for event in told[0]] == [PeerRestarted, LinkUp]
    assert [type(event) for event in told[1]] == [LinkUp]
    assert a.queued_bytes == 0
    for frame in old:
        assert b.receive(frame, 0.0) == []
    a.send(head("x", b"new"), b"new", 0.0)
    assert messages(joined(a, b)[1]) == [head("x", b"new") + b"new"]


def test_a_late_hello_of_a_session_that_was_up_changes_nothing(joined: Make) -> None:
    a, b = engine(1), engine(2)
    hellos = b.frames_to_send(0.0, 1000)
    a.receive(hellos[0], 0.0)
    joined(a, b)
    joined(a, engine(3))
    assert a.is_up
    assert a.receive(hellos[0], 0.0) == []
    assert a.is_up


def test_a_late_hello_of_a_session_never_met_does_not_part_the_ends_for_good(
    pair: tuple[ReliableLink, ReliableLink], joined: Make, head: Make
) -> None:
    a, b = pair
    (stale,) = engine(9).frames_to_send(0.0, 1000)
    assert a.receive(stale, 0.0) == [PeerRestarted()]
    now = 0.0
    told: list[Any] = []
    for _ in range(8):
        now += 1.0
        for end in (a, b):
            told += end.on_timer(now)
        ours, theirs = joined(a, b, now)
        told += ours + theirs
    assert PeerRestarted() in told, "the other end begins anew as well"
    a.send(head("x", b"again"), b"again", now)
    assert messages(joined(a, b, now)[1])


def test_a_looped_line_is_noticed_and_never_comes_up() -> None:
    a = engine(1)
    for now in (0.0, 1.0, 2.0):
        a.on_timer(now)
        for frame in a.frames_to_send(now, 1000):
            assert a.receive(frame, now) == []
    assert a.hears_itself
    assert not a.is_up


def test_another_version_is_named_at_both_ends_and_nothing_comes_up() -> None:
    a = engine(1)
    (hello,) = a.frames_to_send(0.0, 1000)
    body = hello[:1] + b"\x07" + hello[2:-4]
    theirs = body[:2] + (5).to_bytes(4, "big") + body[6:]
    frame = theirs + crc32(theirs).to_bytes(4, "big")
    assert a.receive(frame, 0.0) == [VersionMismatch(theirs=7, ours=1)]
    assert a.receive(frame, 0.0) == [], "once is enough"
    (answer,) = a.frames_to_send(0.0, 1000)
    assert answer[:2] == bytes((frames.HELLO_ACK << 5, 1)), "so that the other end can name it too"
    assert not a.is_up


# -- frames ----------------------------------------------------------------------------------------


def test_a_frame_from_256_numbers_ago_is_not_taken_for_a_new_one(
    pair: tuple[ReliableLink, ReliableLink], joined: Make, head: Make
) -> None:
    a, b = pair
    seen: list[bytes] = []
    for number in range(600):
        payload = b"%d" % number
        a.send(head("x", payload), payload, 0.0)
        (frame,) = a.frames_to_send(0.0, 1000)
        seen.append(frame)
        assert messages(b.receive(frame, 0.0)) == [head("x", payload) + payload]
        assert not any(messages(b.receive(old, 0.0)) for old in seen[-300::37])
        joined(a, b)
    assert {frame[2] for frame in seen} == set(range(256))


def test_an_acknowledgement_from_256_numbers_ago_acknowledges_nothing(
    pair: tuple[ReliableLink, ReliableLink], joined: Make, head: Make
) -> None:
    a, b = pair

    def exchange(count: int) -> bytes:
        answer = b""
        for _ in range(count):
            a.send(head("x", b"k"), b"k", 0.0)
            for frame in a.frames_to_send(0.0, 1000):
                b.receive(frame, 0.0)
            due = b.next_timer()
            assert due is not None
            b.on_timer(due)
            (answer,) = b.frames_to_send(0.0, 1000)
            a.receive(answer, 0.0)
        return answer

    old = exchange(1)
    exchange(255)
    a.send(head("x", b"lost"), b"lost", 0.0)
    a.frames_to_send(0.0, 1000)
    assert old[1] == 1
    a.receive(old, 0.0)
    due = a.next_timer()
    assert due is not None
    a.on_timer(due)
    assert a.frames_to_send(due, 1000), "it is still owed"


def test_what_is_no_frame_of_the_session_changes_nothing(pair: tuple[ReliableLink, ReliableLink]) -> None:
    a, b = pair
    b.bad_frame(0.0)
    (ack,) = b.frames_to_send(0.0, 1000)
    for frame in (b"", b"\x00", ack[:3], ack + b"\x00", bytes(4), bytes(300), b"\xff" * 300, ack[::-1]):
        assert a.receive(frame, 100.0) == []
    assert a.next_timer() == pytest.approx(5.5), "it did not even count as a sign of life"
    assert b.receive(ack, 0.0) == [], "nor does our own frame, reflected"


@pytest.mark.parametrize(
    ("octet", "payload", "why"),
    [
        (frames.FIRST | frames.LAST, b"\x05x", "never told"),
        (frames.FIRST | frames.LAST, b"\xf0x", "reference"),
        (0, b"x", "no message has begun"),
        (frames.LAST, b"x", "no message has begun"),
        (frames.FIRST, b"\xff\xff\xff\x7fx", "more than is allowed"),
        (frames.FIRST, b"\x02xx", "longer than announced"),
        (frames.FIRST, b"\x80", "varint"),
    ],
)
def test_a_peer_that_breaks_the_rules_ends_the_link(
    pair: tuple[ReliableLink, ReliableLink], octet: int, payload: bytes, why: str
) -> None:
    a, _ = pair
    frame = frames.encode_data(frames.DATA << 5 | octet, 0, 0, payload, frames.session_seed(2, 1))
    (event,) = a.receive(frame, 0.0)
    assert isinstance(event, LinkDown)
    assert why in event.reason
    assert not event.by_peer
    assert [frame[0] >> 5 for frame in a.frames_to_send(0.0, 0)] == [frames.BYE] * 2
    assert a.is_closed
    assert a.frames_to_send(0.0, 1000) == []
    assert a.next_timer() is None


def test_messages_that_never_end_take_no_more_memory_than_is_allowed(
    pair: tuple[ReliableLink, ReliableLink],
) -> None:
    a, _ = pair
    seed = frames.session_seed(2, 1)
    size = encode_uint(600 * 1024)
    told: list[Any] = []
    for slot in (0, 1):
        octet = frames.DATA << 5 | frames.FIRST | slot
        told = a.receive(frames.encode_data(octet, 0, slot, size + b"x", seed), 0.0)
    assert isinstance(told[0], LinkDown)


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [SERIAL, BLE])
@pytest.mark.parametrize("size", [0, 1, 14, 15, 255, 256, 257, 5000, 100_000])
def test_a_message_of_any_size_arrives_byte_for_byte(
    joined: Make, head: Make, profile: Profile, size: int
) -> None:
    a, b = engine(1, profile), engine(2, profile)
    payload = bytes(index & 0xFF for index in range(size))
    for view in (payload, bytearray(payload), memoryview(payload)):
        a.send(head("x", payload), view, 0.0)
    assert messages(joined(a, b)[1]) == [head("x", payload) + payload] * 3


@pytest.mark.parametrize(
    "first", [b"\x83\x80\x80\x58\x01", b"", b"no CBOR at all", b"\x83" + bytes(600) + b"\x41"]
)
def test_a_head_that_cannot_be_compressed_is_sent_as_it_is(
    pair: tuple[ReliableLink, ReliableLink], joined: Make, first: bytes
) -> None:
    a, b = pair
    a.send(first, b"k", 0.0)
    a.send(first, b"l", 0.0)
    assert messages(joined(a, b)[1]) == [first + b"k", first + b"l"]


def test_messages_that_are_too_long_or_too_many_are_refused(joined: Make, head: Make) -> None:
    a, b = engine(1, limits=SMALL), engine(2)
    with pytest.raises(LocalError, match="takes 4096"):
        a.send(head("x", bytes(4096)), bytes(4096), 0.0)
    joined(a, b)
    with pytest.raises(LocalError, match="takes 4096"):
        b.send(head("x", bytes(4096)), bytes(4096), 0.0)
    for _ in range(2):
        a.send(head("x", bytes(4000)), bytes(4000), 0.0)
    with pytest.raises(LocalError, match="wait for the link"):
        a.send(head("x", bytes(400)), bytes(400), 0.0)


def test_a_held_end_takes_a_window_and_the_rest_waits_at_the_sender(
    pair: tuple[ReliableLink, ReliableLink], joined: Make, head: Make
) -> None:
    a, b = pair
    b.hold()
    for number in range(40):
        a.send(head("x", b"%d" % number), b"%d" % number, 0.0)
    assert joined(a, b) == ([], [])
    assert a.queued_bytes == len("".join(map(str, range(16, 40))))
    told = messages(b.release(0.0))
    assert len(told) == 16
    told += messages(joined(a, b)[1])
    assert told == [head("x", b"%d" % number) + b"%d" % number for number in range(40)]


@pytest.mark.parametrize(("profile", "delay_s", "every"), [(SERIAL, 0.02, 8), (BLE, 0.04, 4)])
def test_an_acknowledgement_waits_for_data_to_ride_on_but_not_for_long(
    joined: Make, head: Make, profile: Profile, delay_s: float, every: int
) -> None:
    a, b = engine(1, profile), engine(2, profile)
    joined(a, b)
    for end in (a, b):
        end.set_payload_limit(200)
    key = head("keys", b"k")

    def press(now: float) -> None:
        a.send(key, b"k", now)
        for frame in a.frames_to_send(now, 1000):
            b.receive(frame, now)

    press(1.0)
    assert b.frames_to_send(1.0, 1000) == []
    assert b.next_timer() == pytest.approx(1.0 + delay_s)
    b.on_timer(1.0 + delay_s)
    (alone,) = b.frames_to_send(1.0 + delay_s, 1000)
    assert alone[0] >> 5 == frames.ACK
    a.receive(alone, 1.1)

    press(2.0)
    b.send(key, b"k", 2.01)
    (riding,) = b.frames_to_send(2.01, 1000)
    assert riding[0] >> 5 == frames.DATA
    a.receive(riding, 2.02)
    b.on_timer(2.0 + delay_s)
    assert b.frames_to_send(2.0 + delay_s, 1000) == []
    a.close(2.1)
    assert a.frames_to_send(2.1, 1000), "everything was acknowledged: it may leave at once"
    assert a.is_closed

    a, b = engine(1, profile), engine(2, profile)
    joined(a, b)
    a.set_payload_limit(200)
    for _ in range(every):
        assert b.frames_to_send(3.0, 1000) == []
        press(3.0)
    (early,) = b.frames_to_send(3.0, 1000)
    assert early[0] >> 5 == frames.ACK


def test_a_frame_beyond_the_window_is_not_kept(pair: tuple[ReliableLink, ReliableLink]) -> None:
    _, b = pair
    ours, theirs = frames.session_seed(1, 2), frames.session_seed(2, 1)
    whole = frames.DATA << 5 | frames.FIRST | frames.LAST
    assert b.receive(frames.encode_data(whole, 0, SERIAL.window, b"far", ours), 1.0) == []
    assert b.frames_to_send(1.0, 1000) == [frames.encode_control(frames.ACK << 5, 0, theirs)]
    b.receive(frames.encode_data(whole, 0, SERIAL.window - 1, b"near", ours), 1.0)
    (told,) = b.frames_to_send(1.0, 1000)
    assert told == frames.encode_control(frames.ACK << 5, 0, theirs, 1 << (SERIAL.window - 1))


def test_a_lost_go_ahead_is_asked_for(line: Make, head: Make) -> None:
    link = line(SERIAL)
    link.bring_up()
    link.b.link.hold()
    for _ in range(40):
        link.send(link.a, head("x", b"k"), b"k")
    link.run(LIMITS.link_stall_s - 1.0)
    assert link.a.link.is_up, "a peer that makes us wait is not dead"
    link.b.cut = True
    link.take(link.b, link.b.link.release(link.now))
    link.pump(link.b)
    link.at(link.now + 0.1, lambda: setattr(link.b, "cut", False))
    link.run(6.0)
    assert len(link.b.messages) == 40


def test_a_peer_that_takes_nothing_is_given_up_in_the_stated_time_and_both_know_why(
    line: Make, head: Make
) -> None:
    link = line(SERIAL)
    link.bring_up()
    link.b.link.hold()
    for _ in range(16):
        link.send(link.a, head("x", b"k"), b"k")
    link.run(600.0)
    assert link.a.link.is_up, "all of it arrived, nobody waits to send"
    began = link.now
    link.send(link.a, head("x", b"k"), b"k")
    link.run(600.0, lambda: link.a.link.is_closed)
    assert link.a.events[-1] == LinkDown("the peer took nothing for 45 s")
    assert 45.0 <= link.now - began < 45.1
    assert link.a.link.queued_bytes == 0
    link.run(1.0)
    assert link.b.events[-1] == LinkDown("closed by the other side", by_peer=True)
    assert link.b.messages == []


def test_a_peer_that_takes_little_by_little_is_waited_for(line: Make, head: Make) -> None:
    link = line(SERIAL)
    link.bring_up()
    link.b.link.hold()
    for _ in range(40):
        link.send(link.a, head("x", b"k"), b"k")
    for turn in range(1, 6):
        link.run(30.0)
        link.take(link.b, link.b.link.release(link.now))
        link.b.link.hold()
        link.pump(link.b)
        assert len(link.b.messages) == min(40, 16 * turn)
    assert link.a.link.is_up
    assert link.b.link.is_up


def test_a_line_that_takes_nothing_while_the_peer_speaks_is_given_up(
    pair: tuple[ReliableLink, ReliableLink], head: Make
) -> None:
    a, _ = pair
    a.send(head("x", b"k"), b"k", 0.0)
    now, events = 0.0, list[Any]()
    while not events:
        now += 1.0
        ping = frames.encode_control(frames.PING << 5, 0, frames.session_seed(2, 1))
        assert a.receive(ping, now) == []
        events = a.on_timer(now)
        assert events or a.frames_to_send(now, 0) == []
    assert events == [LinkDown("the peer took nothing for 45 s")]
    assert now == 45.0


def test_frames_grow_with_the_mtu_of_a_radio(joined: Make, head: Make) -> None:
    a, b = engine(1, BLE), engine(2, BLE)
    joined(a, b)
    payload = bytes(2000)
    a.send(head("x", payload), payload, 0.0)
    assert {len(frame) for frame in a.frames_to_send(0.0, 100)} == {20}
    a.set_payload_limit(490)
    assert max(len(frame) for frame in a.frames_to_send(0.0, 10_000)) == 495
    a.set_payload_limit(5000)
    a.send(head("x", payload), payload, 0.0)
    assert max(len(frame) for frame in a.frames_to_send(0.0, 10_000)) <= 1024 + 5


# -- the end ---------------------------------------------------------------------------------------


def test_closing_delivers_what_waits_and_says_goodbye(
    pair: tuple[ReliableLink, ReliableLink], joined: Make, head: Make
) -> None:
    a, b = pair
    a.send(head("x", bytes(9000)), bytes(9000), 0.0)
    a.close(0.0)
    a.close(0.0)
    a.send(head("x", b"too late"), b"too late", 0.0)
    told = joined(a, b)[1]
    due = b.next_timer()
    assert due is not None
    b.on_timer(due)
    told += joined(a, b, due)[1]  # the last of it had to be acknowledged first
    assert [type(event) for event in told] == [MessageReceived, LinkDown]
    assert told[-1] == LinkDown("closed by the other side", by_peer=True)
    assert a.is_closed
    assert b.is_closed


def test_closing_does_not_wait_for_ever(pair: tuple[ReliableLink, ReliableLink], head: Make) -> None:
    a, _ = pair
    a.send(head("x", b"k"), b"k", 0.0)
    a.close(0.0)
    now, sent = 0.0, [b""]
    while not a.is_closed:
        sent = a.frames_to_send(now, 1000)
        due = a.next_timer()
        if due is not None:
            now = due
            a.on_timer(now)
    assert now == 2.0
    assert [frame[0] >> 5 for frame in sent] == [frames.BYE] * 2


def test_an_end_that_was_never_up_closes_at_once() -> None:
    a = engine(1)
    a.close(0.0)
    a.frames_to_send(0.0, 1000)
    assert a.is_closed
