"""The queue of a link: fair between flows, quick for those that send little, bounded in what is under way."""

from __future__ import annotations

from collections import Counter

from ockamlite.wire.reliable.compression import HeadWriter
from ockamlite.wire.reliable.frames import FIRST, LAST, SLOT_MASK, SLOTS
from ockamlite.wire.reliable.receiving import Reassembly
from ockamlite.wire.reliable.scheduler import FairQueue

ROOM = 256
MIB = 1 << 20


def fragments(queue: FairQueue, writer: HeadWriter, count: int = 1 << 30) -> list[tuple[int, bytes]]:
    """The next ``count`` fragments, or all there are."""
    taken: list[tuple[int, bytes]] = []
    while queue and len(taken) < count:
        fragment = queue.take(ROOM, writer)
        assert fragment is not None, "what is not empty has something to send"
        taken.append(fragment)
    return taken


def flows_of(taken: list[tuple[int, bytes]]) -> list[bytes]:
    """The letter that fills each fragment."""
    return [payload[-1:] for _, payload in taken]


def test_flows_that_fill_the_link_share_it_equally() -> None:
    queue, writer = FairQueue(MIB), HeadWriter()
    for flow in (b"a", b"b", b"c"):
        for _ in range(3):
            queue.push(flow, flow, flow * 20_000)
    shares = Counter(flows_of(fragments(queue, writer, 150)))
    assert max(shares.values()) - min(shares.values()) <= 2


def test_small_messages_share_with_large_ones_by_bytes() -> None:
    queue, writer = FairQueue(MIB), HeadWriter()
    queue.push(b"a", b"a", b"a" * 50_000)
    for _ in range(500):
        queue.push(b"b", b"b", b"b" * 50)
    taken = fragments(queue, writer, 200)
    sizes = {flow: sum(len(p) for _, p in taken if p[-1:] == flow) for flow in (b"a", b"b")}
    assert 0.8 < sizes[b"a"] / sizes[b"b"] < 1.25


def test_a_flow_that_was_idle_goes_first() -> None:
    queue, writer = FairQueue(MIB), HeadWriter()
    for flow in (b"a", b"b", b"c"):
        queue.push(flow, flow, flow * 20_000)
    fragments(queue, writer, 30)
    queue.push(b"k", b"k", b"k")
    assert flows_of(fragments(queue, writer, 1)) == [b"k"]
    queue.push(b"k", b"k", b"k")
    assert flows_of(fragments(queue, writer, 1)) == [b"k"], "its share of the round is not used up"


def test_a_flow_that_is_never_idle_for_long_cannot_starve_the_others() -> None:
    queue, writer = FairQueue(MIB), HeadWriter()
    queue.push(b"a", b"a", b"a" * 50_000)
    shares: Counter[bytes] = Counter()
    for _ in range(300):
        queue.push(b"k", b"k", b"k" * 100)
        for _, payload in fragments(queue, writer, 1):
            shares[payload[-1:]] += len(payload)
    assert shares[b"a"] > 0.8 * shares[b"k"]


def test_everything_arrives_whole_and_each_flow_in_order() -> None:
    queue, writer, reader = FairQueue(MIB), HeadWriter(), Reassembly(MIB)
    sizes = (0, 1, 200, 300, 5000, 30_000)
    sent = {b"%c" % (97 + flow): [bytes((97 + flow,)) * size for size in sizes] for flow in range(20)}
    for index in range(len(sizes)):
        for flow, messages in sent.items():
            queue.push(flow, flow, messages[index])
    arrived: dict[bytes, list[int]] = {}
    for octet, payload in fragments(queue, writer):
        message = reader.add(octet, payload)
        if message is not None:
            arrived.setdefault(message[:1], []).append(len(message))
    heads = {0: 2, 1: 2, 200: 3, 300: 4, 5000: 4, 30_000: 4}
    assert arrived == {flow: [size + heads[size] for size in sizes] for flow in sent}
    assert queue.waiting_bytes == 0


def test_a_flow_keeps_its_order_whatever_the_heads_of_its_messages_are() -> None:
    queue, writer, reader = FairQueue(MIB), HeadWriter(), Reassembly(MIB)
    sizes = (3000, 0, 700, 1, 5000, 2)
    for number, size in enumerate(sizes):
        queue.push(b"to a", b"\x83\x80\x41%c" % number, b"." * size)
    arrived = [reader.add(octet, payload) for octet, payload in fragments(queue, writer)]
    assert [message[3] for message in arrived if message is not None] == list(range(len(sizes)))


def test_no_more_than_eight_messages_are_under_way_and_two_places_are_kept_for_short_ones() -> None:
    queue, writer = FairQueue(MIB), HeadWriter()
    for flow in range(20):
        queue.push(b"bulk %d" % flow, b"bulk %d" % flow, bytes(10_000))
    taken = fragments(queue, writer, 60)
    assert {octet & SLOT_MASK for octet, _ in taken} == set(range(SLOTS - 2))
    for flow in range(5):
        queue.push(b"short %d" % flow, b"short %d" % flow, bytes(1000))
    taken = fragments(queue, writer, 40)
    assert {octet & SLOT_MASK for octet, _ in taken} == set(range(SLOTS))
    fragments(queue, writer)
    assert not queue


def test_messages_under_way_keep_to_the_budget_and_a_large_one_gets_its_turn() -> None:
    queue, writer = FairQueue(100_000), HeadWriter()
    for flow in range(4):
        for _ in range(5):
            queue.push(b"m%d" % flow, b"m%d" % flow, bytes(40_000))
    fragments(queue, writer, 8)
    queue.push(b"large", b"large", bytes(90_000))
    under_way = dict.fromkeys((0, 1), 40_000)
    most = ended = large_began_after = 0
    for octet, payload in fragments(queue, writer):
        slot = octet & SLOT_MASK
        if octet & FIRST:
            is_large = b"large" in payload
            under_way[slot] = 90_000 if is_large else 40_000
            large_began_after += ended * is_large
        most = max(most, sum(under_way.values()))
        if octet & LAST:
            del under_way[slot]
            ended += 1
    assert most <= 100_000
    assert ended == 21
    assert 2 <= large_began_after <= 4
