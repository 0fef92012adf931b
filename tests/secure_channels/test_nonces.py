"""The encrypted stream: recorded packets in odd orders, and a model of what the window promises."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ockamlite.errors import ClosedError, DecodeError, ProtocolError, RemoteError, VerificationError
from ockamlite.limits import LIMITS
from ockamlite.secure_channels import nonces
from ockamlite.secure_channels.nonces import Opener, RekeyBudget, Sealer

if TYPE_CHECKING:
    from ockamlite.vault.primitives import Aead

WINDOW = json.loads((Path(__file__).parents[1] / "vectors/window.json").read_text())["cases"]
KEY = bytes(range(32))

# Nonces that Rust refuses for its narrow window alone (32 ahead, 32 behind); we take them.
BEYOND_RUST = {
    "out of order inside the window": [40],
    "behind by 31, 32, 33": [7, 19],
    "gap of exactly 32 and of 33": [97],
    "gap of 33 at the start": [33],
    "first packet 33": [33],
    "jump of two intervals": [63, 64],
}


class Channel:
    """One direction of a channel; ``send`` seals, ``deliver`` opens."""

    def __init__(self, budget: RekeyBudget | None = None) -> None:
        self.sealer = Sealer(KEY)
        self.opener = Opener(KEY, budget if budget is not None else RekeyBudget())

    def send(self, count: int) -> list[bytes]:
        first = self.sealer.sent
        return [self.sealer.seal(b"message %d" % (first + n)) for n in range(count)]

    def deliver(self, packet: bytes, now: float = 0.0) -> str:
        """``next``, ``gap`` or ``late``."""
        opened = self.opener.open(packet, now)
        assert opened.plaintext == b"message %d" % int.from_bytes(packet[:8], "big")
        assert not (opened.gap and opened.late)
        return "gap" if opened.gap else "late" if opened.late else "next"

    def window(self) -> object:
        """Everything that decides what is accepted next."""
        o = self.opener
        past = {number: (entry.key, entry.missing) for number, entry in o._past.items()}
        return o._next, o._turn, o._interval, o._key, o._missing, past

    def assert_refused(self, packet: bytes, now: float = 0.0) -> None:
        before = self.window()
        with pytest.raises(RemoteError):
            self.opener.open(packet, now)
        assert self.window() == before


def forged(nonce: int, size: int = 40) -> bytes:
    return nonce.to_bytes(8, "big") + bytes(size)


@pytest.mark.parametrize("case", WINDOW, ids=lambda case: case["name"])
def test_we_deliver_all_that_rust_delivers_and_nothing_that_is_false(case: dict[str, Any]) -> None:
    opener = Opener(bytes.fromhex(case["keys"][0]), RekeyBudget())
    ours: set[int] = set()
    beyond: list[int] = []
    for step in case["steps"]:
        nonce = step["nonce"]
        try:
            opener.open(bytes.fromhex(step["packet"]), 0.0)
        except RemoteError:
            # Delivered by Rust only where we had delivered it before.
            assert not step["delivered"] or nonce in ours
            continue
        assert "spoilt" not in step
        assert nonce not in ours
        ours.add(nonce)
        if not step["delivered"]:
            beyond.append(nonce)
    assert {step["nonce"] for step in case["steps"] if step["delivered"]} <= ours
    assert beyond == BEYOND_RUST.get(case["name"], [])


@pytest.mark.parametrize("case", WINDOW, ids=lambda case: case["name"])
def test_keys_follow_each_other_as_in_rust(case: dict[str, Any]) -> None:
    sealer = Sealer(bytes.fromhex(case["keys"][0]))
    for key in case["keys"][1:]:
        assert nonces.rekey(sealer._cipher).hex() == key
        for _ in range(33 if sealer.sent == 0 else 32):
            sealer.seal(b"")


def test_messages_in_order_leave_nothing_behind() -> None:
    channel = Channel()
    for packet in channel.send(1000):
        assert channel.deliver(packet) == "next"
    assert not channel.opener._past
    assert not channel.opener._ahead
    assert channel.opener.expected == channel.sealer.sent == 1000


def test_a_replayed_nonce_is_dropped() -> None:
    channel = Channel()
    packets = channel.send(100)
    for packet in packets:
        channel.deliver(packet)
    for packet in packets:
        channel.assert_refused(packet)


@pytest.mark.parametrize("lost", [1, 31, 32, 33, 2000, LIMITS.forward_jump_messages - 1])
@pytest.mark.parametrize("before", [0, 1, 31, 32, 33, 40])
def test_w9_a_burst_of_losses_does_not_deafen_the_channel(lost: int, before: int) -> None:
    channel = Channel()
    for packet in channel.send(before):
        channel.deliver(packet)
    missing = channel.send(lost)
    first, *others = channel.send(40)
    assert channel.deliver(first) == "gap"
    assert [channel.deliver(packet) for packet in others] == ["next"] * 39
    # What was not lost but late still counts, if not too late, once.
    kept = missing[max(0, lost + 40 - 1 - LIMITS.backlog_messages) :]
    for packet in missing[: len(missing) - len(kept)]:
        channel.assert_refused(packet)
    assert [channel.deliver(packet) for packet in kept] == ["late"] * len(kept)
    for packet in missing:
        channel.assert_refused(packet)
    assert not any(entry.missing for entry in channel.opener._past.values() if lost <= 1000)


def test_w9_a_jump_is_accepted_up_to_the_limit_and_no_further() -> None:
    jump = LIMITS.forward_jump_messages
    channel = Channel()
    packets = channel.send(2 * jump + 2)
    channel.assert_refused(packets[jump])
    assert channel.deliver(packets[0]) == "next"
    channel.assert_refused(packets[jump + 1])
    assert channel.deliver(packets[jump]) == "gap"
    channel.assert_refused(packets[2 * jump + 1])
    assert channel.deliver(packets[2 * jump]) == "gap"


def test_a_late_message_is_accepted_up_to_the_limit_and_no_further() -> None:
    backlog = LIMITS.backlog_messages
    for newest in (backlog, backlog + 1, backlog + 31, backlog + 32, backlog + 40):
        channel = Channel()
        packets = channel.send(newest + 1)
        for nonce in range(20, newest + 1, 20):
            channel.deliver(packets[nonce])
        channel.deliver(packets[newest]) if newest % 20 else None
        oldest = newest - backlog
        if oldest:
            channel.assert_refused(packets[oldest - 1])
        if oldest % 20 or not oldest:
            assert channel.deliver(packets[oldest]) == "late"
        assert channel.deliver(packets[oldest + 1]) == "late"


@pytest.mark.parametrize("displaced", [1, 31, 32, 33, 500])
def test_messages_may_overtake_each_other(displaced: int) -> None:
    channel = Channel()
    packets = channel.send(1200)
    order = sorted(range(1200), key=lambda n: n + (displaced + 0.5 if n % 7 == 0 else 0))
    assert order != sorted(order)
    told = [channel.deliver(packets[n]) for n in order]
    assert told.count("late") == len(range(0, 1200, 7))
    assert not channel.opener._missing
    assert not channel.opener._past


def test_w10_forged_nonces_leave_no_state_and_the_real_message_still_opens() -> None:
    channel = Channel()
    packets = channel.send(200)
    for packet in packets[:40]:
        channel.deliver(packet)
    for nonce in [*range(4000), 1 << 20, 1 << 63, (1 << 64) - 32, (1 << 64) - 1]:
        channel.assert_refused(forged(nonce))
    # Derived once and remembered, never more than the jump needs.
    assert len(channel.opener._ahead) == LIMITS.forward_jump_messages // 32
    assert [channel.deliver(packet) for packet in packets[40:]] == ["next"] * 160


def test_w9_a_derived_key_is_not_derived_again(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel()
    packets = channel.send(640)
    channel.assert_refused(forged(639))
    monkeypatch.setattr(nonces, "rekey", None)
    assert channel.deliver(packets[100]) == "gap"
    assert channel.deliver(packets[639]) == "gap"
    assert channel.deliver(packets[150]) == "late"


def test_w9_the_keys_that_forged_nonces_make_us_derive_are_bounded_per_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    derived = 0
    real = nonces.rekey

    def counted(cipher: Aead) -> bytes:
        nonlocal derived
        derived += 1
        return real(cipher)

    monkeypatch.setattr(nonces, "rekey", counted)
    budget = RekeyBudget(100)
    channels = [Channel(budget) for _ in range(20)]
    for channel in channels:
        for nonce in (32 * 60, 32 * 60, 32 * 59, 32 * 10):
            channel.assert_refused(forged(nonce), now=5.0)
    # The first 60, the repeat for nothing; ten for the next that fit; for the rest the budget was empty.
    assert derived <= 100
    spent = derived
    for channel in channels:
        channel.assert_refused(forged(32 * 60), now=5.1)
    assert derived - spent <= 10
    for channel in channels:
        channel.assert_refused(forged(32 * 60), now=60.0)
    assert derived - spent <= 110
    # In order, the next key is due: no flood elsewhere keeps it from us.
    quiet = Channel(budget)
    while budget.take(1, 60.0):
        pass
    assert [quiet.deliver(packet, now=60.0) for packet in quiet.send(100)] == ["next"] * 100


def test_the_budget_refills_with_time_and_not_beyond_its_size() -> None:
    budget = RekeyBudget(10)
    assert budget.take(10, 100.0)
    assert not budget.take(1, 100.0)
    assert not budget.take(6, 100.5)
    assert budget.take(5, 100.5)
    assert not budget.take(11, 1000.0)
    assert budget.take(10, 1000.0)


def test_a_packet_with_any_bit_flipped_changes_nothing() -> None:
    channel = Channel()
    packets = channel.send(40)
    for packet in (packets[0], packets[5], packets[33]):
        for at in range(len(packet)):
            for bit in range(8):
                spoiled = packet[:at] + bytes((packet[at] ^ 1 << bit,)) + packet[at + 1 :]
                channel.assert_refused(spoiled)
        channel.deliver(packet)


def test_a_packet_cut_at_any_length_is_refused() -> None:
    channel = Channel()
    (packet,) = channel.send(1)
    for cut in range(len(packet)):
        with pytest.raises(DecodeError if cut < 8 else VerificationError):
            channel.opener.open(packet[:cut], 0.0)
    channel.assert_refused(packet + b"\0")
    assert channel.deliver(packet) == "next"


def test_one_failure_tells_no_more_than_another() -> None:
    channel = Channel()
    packet = channel.send(3)[2]
    texts = set()
    for at in range(8, len(packet)):
        with pytest.raises(VerificationError) as caught:
            channel.opener.open(packet[:at] + bytes((packet[at] ^ 1,)) + packet[at + 1 :], 0.0)
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_keys_of_the_past_are_erased_when_nothing_is_missing_or_too_late() -> None:
    channel = Channel()
    packets = channel.send(4 * LIMITS.backlog_messages)
    for nonce, packet in enumerate(packets):
        if nonce % 32 != 7:
            channel.deliver(packet)
        assert len(channel.opener._past) <= LIMITS.backlog_messages // 32 + 1
    past = len(channel.opener._past)
    channel.deliver(packets[-32 - 32 + 7])
    assert len(channel.opener._past) == past - 1


@pytest.mark.parametrize("packet_type", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 1, 100, 49_152])
def test_a_packet_sealed_in_place_is_the_same_packet(packet_type: type, size: int) -> None:
    one, two, opener = Sealer(KEY), Sealer(KEY), Opener(KEY, RekeyBudget())
    for _ in range(70):
        plaintext = bytes(size)
        buffer = bytearray(b"head") + bytearray(size + nonces.OVERHEAD_BYTES) + b"tail"
        assert two.seal_into(buffer, 4, plaintext) == len(buffer) - 4
        packet = one.seal(plaintext)
        assert buffer == b"head" + packet + b"tail"
        assert opener.open(packet_type(packet), 0.0) == (plaintext, False, False)
    assert one.sent == two.sent == 70


def test_a_buffer_that_is_too_small_uses_no_nonce() -> None:
    sealer = Sealer(KEY)
    with pytest.raises(ValueError):
        sealer.seal_into(bytearray(30), 0, b"12345678")
    assert sealer.sent == 0


def test_the_last_nonce_is_never_used() -> None:
    """It is the nonce of REKEY (Noise rev 34, §4.2)."""
    last = (1 << 64) - 2
    sealer, opener = Sealer(KEY), Opener(KEY, RekeyBudget())
    for nonce in (last - 30 - 32, last - 30):
        # As after all the messages before, under whatever key.
        sealer._nonce, sealer._turn = nonce, nonce
        sealer._next_interval()
    opener._next, opener._turn, opener._interval = last - 30, (1 << 64) - 1, last >> 5
    opener._cipher = sealer._cipher
    opener._open = sealer._cipher.open_raw
    packet = b""
    for _ in range(31):
        packet = bytes(sealer.seal(b"x"))
        assert opener.open(packet, 0.0).plaintext == b"x"
    assert int.from_bytes(packet[:8], "big") == last
    for _ in range(2):
        with pytest.raises(ClosedError):
            sealer.seal(b"x")
        with pytest.raises(ClosedError):
            sealer.seal_into(bytearray(100), 0, b"x")
    full = b"\0\0\0\0" + b"\xff" * 8
    with pytest.raises(ProtocolError):
        opener.open(full[4:] + sealer._cipher.seal(full, b"x", None), 0.0)


class AnyNetwork(RuleBasedStateMachine):
    """Loses, repeats, reorders and spoils; the model is a set of nonces."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = Channel(RekeyBudget(1 << 40))
        self.packets: list[bytes] = []
        self.seen: set[int] = set()
        self.newest = -1

    @rule(count=st.sampled_from([1, 2, 5, 31, 32, 33, 64, 700, LIMITS.forward_jump_messages]))
    def send(self, count: int) -> None:
        if len(self.packets) < 12_000:
            self.packets += self.channel.send(count)

    def _deliver(self, nonce: int) -> None:
        ahead = nonce - self.newest
        welcome = nonce not in self.seen and (
            0 < ahead <= LIMITS.forward_jump_messages or -LIMITS.backlog_messages <= ahead < 0
        )
        if not welcome:
            self.channel.assert_refused(self.packets[nonce])
            return
        expected = "next" if ahead == 1 else "gap" if ahead > 1 else "late"
        assert self.channel.deliver(self.packets[nonce]) == expected
        self.seen.add(nonce)
        self.newest = max(self.newest, nonce)

    @precondition(lambda self: self.packets)
    @rule(
        offset=st.sampled_from([1, 2, 31, 32, 33, 63, 64, 65, 2047, 2048, 2049]) | st.integers(0, 2100),
        sign=st.sampled_from([1, -1]),
    )
    def deliver_near_the_newest(self, offset: int, sign: int) -> None:
        nonce = self.newest + sign * offset
        if 0 <= nonce < len(self.packets):
            self._deliver(nonce)

    @precondition(lambda self: self.packets)
    @rule(where=st.floats(0, 1, exclude_max=True))
    def deliver_any(self, where: float) -> None:
        self._deliver(math.floor(where * len(self.packets)))

    @rule(count=st.integers(1, 80))
    def deliver_the_next_ones(self, count: int) -> None:
        for nonce in range(self.newest + 1, min(self.newest + 1 + count, len(self.packets))):
            self._deliver(nonce)

    @precondition(lambda self: self.packets)
    @rule(where=st.floats(0, 1, exclude_max=True), at=st.integers(0, 200), bit=st.integers(0, 7))
    def deliver_spoiled(self, where: float, at: int, bit: int) -> None:
        packet = bytearray(self.packets[math.floor(where * len(self.packets))])
        packet[at % len(packet)] ^= 1 << bit
        self.channel.assert_refused(bytes(packet))

    @rule(nonce=st.integers(0, (1 << 64) - 1) | st.integers(0, 14_000), size=st.integers(0, 40))
    def deliver_forged(self, nonce: int, size: int) -> None:
        self.channel.assert_refused(forged(nonce, size))

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.channel.opener._past) <= LIMITS.backlog_messages // 32 + 2
        assert len(self.channel.opener._ahead) <= LIMITS.forward_jump_messages // 32


AnyNetwork.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyNetwork = AnyNetwork.TestCase
