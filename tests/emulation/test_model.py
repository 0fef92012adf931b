"""The model of a link: each fault does what it says, and one seed decides all of them."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boards.emulation.model import Conditions, Delivery, LinkModel, Outage

PACKETS = [n.to_bytes(2, "big") * 8 for n in range(1000)]
BAD = Conditions(
    bytes_per_s=20_000,
    queue_bytes=400,
    latency_s=0.01,
    jitter_s=0.02,
    loss_ratio=0.1,
    burst_ratio=0.01,
    duplicate_ratio=0.1,
    reorder_ratio=0.1,
    corrupt_ratio=0.1,
    mtu_bytes=100,
    outages=(Outage(0.2, 0.3),),
)


def sent(conditions: Conditions, seed: int = 1, gap_s: float = 0.001) -> tuple[LinkModel, list[Delivery]]:
    model = LinkModel(conditions, seed=seed)
    arrived = [delivery for n, packet in enumerate(PACKETS) for delivery in model.send(packet, n * gap_s)]
    return model, sorted(arrived, key=lambda delivery: delivery.at)


def test_a_perfect_link_delivers_everything_at_once() -> None:
    assert LinkModel().send(b"packet", 3.0) == [Delivery(3.0, b"packet")]


def test_the_same_seed_gives_the_same_deliveries_and_another_gives_others() -> None:
    assert sent(BAD)[1] == sent(BAD)[1]
    assert sent(BAD)[1] != sent(BAD, seed=2)[1]


def test_more_of_one_fault_leaves_the_others_where_they_were() -> None:
    some = Conditions(loss_ratio=0.1)
    more = dataclasses.replace(some, corrupt_ratio=1.0, duplicate_ratio=0.5)
    assert [d.at for d in sent(some)[1]] == sorted({d.at for d in sent(more)[1]})


def test_bandwidth_spaces_packets_out() -> None:
    model = LinkModel(Conditions(bytes_per_s=1000))
    assert [model.send(bytes(100), 0.0)[0].at for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert model.send(bytes(100), 9.0)[0].at == pytest.approx(9.1)


def test_what_finds_the_queue_full_is_lost() -> None:
    model = LinkModel(Conditions(bytes_per_s=1000, queue_bytes=200))
    assert [len(model.send(bytes(100), 0.0)) for _ in range(4)] == [1, 1, 0, 0]
    assert len(model.send(bytes(100), 0.1)) == 1


def test_jitter_delays_and_never_reorders() -> None:
    _, arrived = sent(Conditions(latency_s=0.5, jitter_s=0.1))
    assert [delivery.packet for delivery in arrived] == PACKETS
    assert all(0.5 <= delivery.at - n * 0.001 <= 0.6 for n, delivery in enumerate(arrived))


@pytest.mark.parametrize(
    ("conditions", "count", "expected"),
    [
        (Conditions(loss_ratio=0.1), "lost", 100),
        (Conditions(burst_ratio=0.01, burst_packets=10), "lost", 90),
        (Conditions(duplicate_ratio=0.1), "duplicated", 100),
        (Conditions(reorder_ratio=0.1), "reordered", 100),
        (Conditions(corrupt_ratio=0.1), "corrupted", 100),
    ],
)
def test_a_fault_comes_as_often_as_its_ratio_says(conditions: Conditions, count: str, expected: int) -> None:
    model, _ = sent(conditions)
    assert expected * 0.5 < getattr(model.counts, count) < expected * 1.7


def test_bursts_lose_packets_in_a_row() -> None:
    _, arrived = sent(Conditions(burst_ratio=0.01, burst_packets=10))
    numbers = [PACKETS.index(delivery.packet) for delivery in arrived]
    gaps = [b - a - 1 for a, b in itertools.pairwise(numbers) if b - a > 1]
    assert sum(gaps) / len(gaps) > 4


def test_a_corrupted_packet_differs_in_one_bit() -> None:
    _, arrived = sent(Conditions(corrupt_ratio=1.0))
    for packet, (_, found) in zip(PACKETS, arrived, strict=True):
        assert (int.from_bytes(packet, "big") ^ int.from_bytes(found, "big")).bit_count() == 1


def test_a_held_up_packet_is_overtaken_by_the_next() -> None:
    _, arrived = sent(Conditions(reorder_ratio=0.1))
    assert [delivery.packet for delivery in arrived] != PACKETS
    assert sorted(delivery.packet for delivery in arrived) == PACKETS


def test_what_is_longer_than_the_mtu_is_lost() -> None:
    model = LinkModel(Conditions(mtu_bytes=100))
    assert [len(model.send(bytes(size), 0.0)) for size in (100, 101)] == [1, 0]


def test_nothing_passes_during_an_outage() -> None:
    model = LinkModel(Conditions(outages=(Outage(1.0, 2.0),)))
    assert [len(model.send(b"x", at)) for at in (0.9, 1.0, 1.9, 2.0)] == [1, 0, 0, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss_ratio": 1.1},
        {"corrupt_ratio": -0.1},
        {"burst_packets": 0.5},
        {"bytes_per_s": 0.0},
        {"latency_s": -1.0},
    ],
)
def test_impossible_conditions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"ratio|burst|bandwidth|negative|not 0 to 1"):
        Conditions(**wrong)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=120)), max_size=50), st.integers())
def test_nothing_arrives_before_it_was_sent_or_was_never_sent(
    packets: list[tuple[float, bytes]], seed: int
) -> None:
    model = LinkModel(dataclasses.replace(BAD, corrupt_ratio=0.0), seed=seed)
    now = 0.0
    for gap, packet in packets:
        now += gap
        for at, found in model.send(packet, now):
            assert at >= now + 0.01
            assert found == packet
    counts = model.counts
    assert counts.sent == len(packets) == counts.delivered + counts.lost
