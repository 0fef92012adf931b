"""How much a channel has under way: the window follows what answers tell, and no answer stops it for good."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from ockamlite.routing.address import Address
from ockamlite.secure_channels.channel import PROBE_S
from ockamlite.secure_channels.pace import Pace
from tests.secure_channels.exchanges import opened


class Way:
    """Carries bytes at a rate, some time after they were sent; who sends does so as soon as it may."""

    def __init__(self, bytes_per_s: float, own_s: float) -> None:
        self.pace = Pace()
        self.now = 0.0
        self.most_bytes = 0
        self._rate = bytes_per_s
        self._own_s = own_s
        self._clear_at = 0.0
        self._answers: list[tuple[float, int]] = []

    def ask(self) -> None:
        self._answers.append((max(self.now, self._clear_at) + self._own_s, self.pace.asked(self.now)))

    def send(self, size: int) -> None:
        """Send, then wait as long as a sender must."""
        pace = self.pace
        pace.sent_bytes += size
        self._clear_at = max(self.now, self._clear_at) + size / self._rate
        if pace.wants_question:
            self.ask()
        if pace.look_at <= pace.sent_bytes:
            self.pass_time(pace.pause_s(size))
        self.most_bytes = max(self.most_bytes, pace.under_way_bytes)
        while pace.is_full:
            self.pass_time(self._answers[0][0] - self.now)

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self._answers and self._answers[0][0] <= until:
            self.now, number = self._answers.pop(0)
            self.pace.answered(number, self.now)
        self.now = until


def test_on_a_slow_way_no_more_than_some_seconds_worth_is_under_way() -> None:
    way = Way(960, 0.3)
    way.ask()
    for _ in range(100):
        way.send(1000)
    assert way.most_bytes <= 12 * 960
    assert way.now < 1.05 * 100_000 / 960, "it is hardly ever idle"


def test_on_a_quick_way_what_may_be_under_way_grows_until_nobody_waits() -> None:
    way = Way(100e6, 0.05)
    way.ask()
    for _ in range(1000):
        way.send(96_000)
    assert way.now < 1.4 * 96e6 / 100e6
    assert way.pace.pause_s(96_000) == 0


def test_a_way_that_becomes_slower_has_less_under_way_soon() -> None:
    way = Way(20_000, 0.1)
    way.ask()
    for _ in range(200):
        way.send(5000)
    assert way.most_bytes > 40_000
    way._rate = 5000
    for _ in range(50):
        way.send(5000)
    way.most_bytes = 0
    for _ in range(20):
        way.send(5000)
    assert way.most_bytes <= 10 * 5000


def test_a_question_behind_much_on_a_slow_way_is_due_later() -> None:
    pace = Pace()
    pace.answered(pace.asked(0.0), 0.3)
    pace.sent_bytes += 6000
    pace.answered(pace.asked(1.0), 7.0)
    pace.sent_bytes += 12_000
    pace.asked(8.0)
    assert not pace.is_due(15.0)
    assert pace.is_due(25.0)
    assert Pace().is_due(0.0)


def test_the_oldest_question_that_waits_says_what_is_due() -> None:
    pace = Pace()
    pace.answered(pace.asked(0.0), 5.0)
    pace.sent_bytes += 6000
    pace.asked(6.0)
    for number in range(100):
        pace.asked(7.0 + number)
    assert not pace.is_due(20.0)
    assert pace.is_due(45.0)


def test_answers_to_no_question_change_nothing() -> None:
    pace = Pace()
    number = pace.asked(0.0)
    pace.sent_bytes += 10_000
    pace.answered(number + 1, 1.0)
    pace.answered(-1, 1.0)
    assert pace.is_full
    pace.answered(number, 1.0)
    window = pace.window_bytes
    pace.answered(number, 2.0)
    assert pace.window_bytes == window


def test_a_peer_that_answers_nothing_may_get_any_amount_until_it_does() -> None:
    pace = Pace()
    pace.sent_bytes += 1_000_000
    pace.set_free()
    assert not pace.is_full
    assert pace.look_at == math.inf
    pace.answered(pace.asked(0.0), 1.0)
    assert math.isfinite(pace.window_bytes)


async def test_a_peer_that_does_not_offer_echo_gets_much_after_a_moment(pair: Any, time: Any) -> None:
    await pair.start()
    _be_deaf(pair.alice)
    channel, theirs = await opened(pair)
    inbox = pair.alice.context()
    pair.alice.open(inbox.address, channel)
    sender = pair.bob.context()
    await asyncio.sleep(10 * PROBE_S)  # it says nothing either
    began = time.now
    for _ in range(50):
        await asyncio.wait_for(sender.send(theirs.route / inbox.address, bytes(10_000)), 60)
        await asyncio.wait_for(inbox.receive(), 10)
    assert 1 < time.now - began < 3


async def test_a_peer_that_stops_answering_questions_but_speaks_still_gets_all(pair: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    await asyncio.sleep(2 * PROBE_S)
    _be_deaf(pair.bob)
    inbox = pair.bob.context()
    pair.bob.open(inbox.address, pair.channels)
    channel._pace.window_bytes = 100_000
    channel._pace._look_later()
    speaks = asyncio.create_task(_speaks(pair, theirs))
    sender = pair.alice.context()
    for _ in range(50):
        await asyncio.wait_for(sender.send(channel.route / inbox.address, bytes(1_000_000)), 120)
        await asyncio.wait_for(inbox.receive(), 10)
    speaks.cancel()
    assert not channel.closed.done()


async def _speaks(pair: Any, channel: Any) -> None:
    sender = pair.bob.context()
    while True:
        await sender.send(channel.route / "echo", b"I am here")
        await asyncio.sleep(1)


def _be_deaf(node: Any) -> None:
    """Take questions and answer none."""
    flows = node.router._table[Address.local("echo")].flows
    node.router.remove(Address.local("echo"))
    node.router.add(Address.local("echo"), lambda message: None)
    node.router.open(Address.local("echo"), flows)


async def test_how_far_much_has_come_is_asked_at_the_next_look(pair: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    sender, inbox = pair.alice.context(), pair.bob.context()
    pair.bob.open(inbox.address, pair.channels)
    speaks = asyncio.create_task(_speaks(pair, theirs))
    await asyncio.sleep(2 * PROBE_S)
    await sender.send(channel.route / inbox.address, bytes(50_000))
    assert channel._pace.under_way_bytes > 50_000
    await asyncio.sleep(1.1 * PROBE_S)
    assert channel._pace.under_way_bytes < 2000
    speaks.cancel()


async def test_who_waits_for_a_way_that_ends_is_let_go_and_nothing_asks_on(pair: Any, time: Any) -> None:
    await pair.start()
    channel, _ = await opened(pair)
    inbox = pair.bob.context()
    pair.bob.open(inbox.address, pair.channels)
    channel._pace.window_bytes = 10_000
    channel._pace._look_later()
    pair.network.tamper = lambda frame: ()
    sender = pair.alice.context()
    waiting = asyncio.create_task(sender.send(channel.route / inbox.address, bytes(50_000)))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert channel._gate.is_shut
    began = time.now
    assert await channel.closed == "the peer fell silent"
    assert time.now - began < 45
    await waiting
    assert channel._gate_timer is None
