"""What strangers can make a listener of secure channels hold and do.

The tests named ``w1`` to ``w23`` prove the answers to the weaknesses that a review of the protocol
found in other implementations. The network is in memory, and its clock jumps.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import AnswerTimeoutError
from ockamlite.events import Refused
from ockamlite.limits import LIMITS
from ockamlite.routing.address import Address
from ockamlite.routing.route import Route
from ockamlite.secure_channels import noise
from ockamlite.secure_channels.trust import NotTrustedError, TrustIdentifiers
from ockamlite.vault.software import ephemeral_dh_key
from tests.secure_channels.exchanges import stranger_core, works

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ockamlite.events import Event


def message1s() -> Iterable[bytes]:
    """Any 32 bytes are somebody's public key."""
    number = 0
    while True:
        number += 1
        yield number.to_bytes(16, "big") + b"\x42" * 16


async def test_w1_ten_thousand_abandoned_handshakes_over_one_link_leave_a_flat_table(
    pair: Any, stranger: Any
) -> None:
    await pair.start()
    flood = await stranger()
    before = len(pair.bob.router)
    firsts = iter(message1s())
    for _ in range(100):
        for _ in range(100):
            flood.send(Route.of("api"), Route.of("x"), next(firsts))
        await asyncio.sleep(0.01)
        assert len(pair.channels._pending) <= LIMITS.pending_handshakes_per_source
        assert len(pair.bob.router) <= before + LIMITS.pending_handshakes_per_source
    assert await works(pair.alice, await pair.channel(timeout_s=1))
    await asyncio.sleep(2 * LIMITS.handshake_timeout_s)
    assert not pair.channels._pending
    assert pair.channels._sweeper is None


async def test_w1_handshakes_abandoned_over_many_links_leave_a_flat_table_and_room_for_a_real_one(
    pair: Any, stranger: Any
) -> None:
    await pair.start()
    before = len(pair.bob.router)
    firsts = iter(message1s())
    floods = [await stranger() for _ in range(40)]
    for _ in range(3):
        for flood in floods:
            for _ in range(20):
                flood.send(Route.of("api"), Route.of("x"), next(firsts))
        await asyncio.sleep(0.1)
        assert len(pair.channels._pending) <= LIMITS.pending_handshakes
        assert len(pair.bob.router) <= before + 40 + LIMITS.pending_handshakes
    assert await works(pair.alice, await pair.channel(timeout_s=1))
    for flood in floods:
        flood.link.close()
    await asyncio.sleep(2 * LIMITS.handshake_timeout_s)
    assert not pair.channels._pending
    assert len(pair.channels._buckets._left) <= 256
    assert len(pair.channels._sub_buckets._left) <= 256


async def test_w1_the_oldest_handshake_of_whoever_has_most_gives_way(pair: Any, stranger: Any) -> None:
    limits = dataclasses.replace(LIMITS, pending_handshakes=10, pending_handshakes_per_source=5)
    pair.bob = pair.node(limits=limits)
    await pair.start()
    slow, one, other = await stranger(), await stranger(), await stranger()
    core = stranger_core()
    back, message2 = await slow.handshake(core)
    firsts = iter(message1s())
    for _ in range(100):
        for flood in (one, other):
            flood.send(Route.of("api"), Route.of("x"), next(firsts))
        await asyncio.sleep(0.01)
    assert len(pair.channels._pending) == 10
    message3, _, _ = core.receive(message2, lambda payload, key: None)
    slow.send(back, Route.of("stranger"), message3)
    await asyncio.sleep(0.01)
    assert len(pair.channels.channels) == 1


async def test_w1_a_handshake_is_forgotten_with_its_link(pair: Any, stranger: Any) -> None:
    await pair.start()
    flood = await stranger()
    flood.send(Route.of("api"), Route.of("x"), bytes(31) + b"\x09")
    await flood.wait(1)
    assert len(pair.channels._pending) == 1
    flood.link.close()
    await asyncio.sleep(LIMITS.handshake_timeout_s)
    assert not pair.channels._pending


async def test_w1_we_forget_our_own_handshakes_that_nobody_answers(pair: Any) -> None:
    await pair.start()
    pair.network.tamper = lambda frame: ()
    before = len(pair.alice.router)
    for _ in range(50):
        with pytest.raises(AnswerTimeoutError):
            await pair.channel(timeout_s=8)
        assert len(pair.alice.router) == before


async def test_w2_one_source_is_answered_so_often_and_no_other_suffers(pair: Any, stranger: Any) -> None:
    await pair.start()
    flood = await stranger()
    firsts = iter(message1s())
    for _ in range(1000):
        flood.send(Route.of("api"), Route.of("x"), next(firsts))
    await asyncio.sleep(0.001)
    at_once = len(flood.got)
    assert at_once <= LIMITS.pending_handshakes_per_source + 1
    assert await works(pair.alice, await pair.channel(timeout_s=1))
    for _ in range(10):
        await asyncio.sleep(0.1)
        for _ in range(100):
            flood.send(Route.of("api"), Route.of("x"), next(firsts))
    await asyncio.sleep(0.001)
    assert len(flood.got) - at_once <= LIMITS.handshakes_per_source_s + LIMITS.pending_handshakes_per_source


async def test_w2_one_behind_a_relay_is_answered_so_often_and_the_others_there_do_not_suffer(
    pair: Any, stranger: Any
) -> None:
    """The hop behind our link was put there by the relay: it tells the relay's clients apart."""
    await pair.start()
    relay = await stranger()
    firsts = iter(message1s())
    relay.send(Route.of("api"), Route.of("bob", "x"), next(firsts))
    await asyncio.sleep(0.01)
    (bobs,) = pair.channels._pending
    for number in range(20):
        for _ in range(100):
            relay.send(Route.of("api"), Route.of("flood", "x"), next(firsts))
        relay.send(Route.of("api"), Route.of(f"client {number}", "x"), next(firsts))
        await asyncio.sleep(0.1)
    answered = [onward[0].name for onward, _, _ in relay.got]
    assert {f"client {number}" for number in range(20)} < set(answered)
    assert answered.count("flood") <= 2 * LIMITS.handshakes_per_source_s / 4 + 32
    assert bobs in pair.channels._pending
    assert len(pair.channels._pending) == LIMITS.pending_handshakes_per_source


async def test_w2_made_up_hops_of_one_link_gain_it_nothing(pair: Any, stranger: Any) -> None:
    await pair.start()
    flood = await stranger()
    firsts = iter(message1s())
    for number in range(2000):
        flood.send(Route.of("api"), Route.of(f"made up {number}", "x"), next(firsts))
    await asyncio.sleep(0.001)
    assert len(flood.got) <= LIMITS.pending_handshakes_per_source + 1
    assert len(pair.channels._sub_buckets._left) < 600
    assert await works(pair.alice, await pair.channel(timeout_s=1))


async def test_who_is_not_trusted_is_refused_once_and_for_all(
    pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Message 3 is repeated and probes follow it; each would be judged, and logged, again."""
    await pair.start(trust=TrustIdentifiers())
    channel = await pair.channel()
    await asyncio.sleep(1)
    assert not pair.channels._pending
    await asyncio.sleep(20)
    assert sum("refused" in record.getMessage() for record in caplog.records) == 1
    assert not channel.confirmed.done()


@pytest.mark.parametrize(
    "back",
    [
        Route.of("secret"),
        Route.of("echo", "secret"),
        Route.of("api"),
        Route((Address(1, b"127.0.0.1:22"),)),
        Route(),
        "another link",
    ],
    ids=str,
)
async def test_w2_message_2_goes_back_over_the_link_that_brought_message_1_and_nowhere_else(
    pair: Any, stranger: Any, back: Any
) -> None:
    await pair.start()
    told: list[object] = []
    pair.bob.router.add(Address.local("secret"), told.append)
    pair.bob.forward("tcp")
    asking, other = await stranger(), await stranger()
    await asyncio.sleep(0)
    if back == "another link":
        links = sorted(pair.listener.links, key=list(pair.listener.links).index)
        back = links[-1].route
    asking.send(Route.of("api"), back, bytes(31) + b"\x09")
    ((onward, came_back, message2),) = await asking.wait(1)
    assert onward == back
    assert len(message2) > 400
    assert len(came_back) == 1
    assert not told
    assert not other.got


async def test_w2_message_1_without_an_ephemeral_key_costs_no_answer(pair: Any, stranger: Any) -> None:
    await pair.start()
    short = await stranger()
    for length in range(32):
        short.send(Route.of("api"), Route.of("x"), bytes(length))
    short.send(Route.of("api"), Route.of("x"), bytes(70_000))
    short.send(Route.of("echo"), Route.of("end"), b"")
    await short.wait(1)
    assert len(short.got) == 1
    assert not pair.channels._pending


async def test_w8_a_key_of_low_order_gets_no_answer(pair: Any, stranger: Any) -> None:
    await pair.start()
    bad = await stranger()
    for point in (bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"):
        bad.send(Route.of("api"), Route.of("x"), point)
    bad.send(Route.of("echo"), Route.of("end"), b"")
    await bad.wait(1)
    assert [onward for onward, _, _ in bad.got] == [Route.of("end")]
    assert not pair.channels._pending


async def test_w5_identities_presented_in_one_handshake_are_judged_a_few_times_only(
    pair: Any, stranger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.start(trust=TrustIdentifiers())
    judged: list[int] = []
    verifier = pair.bob._channels.verifier

    def counting(trust: object) -> Callable[[bytes, bytes], object]:
        judged.append(1)
        return verifier(trust)  # type: ignore[no-any-return]

    monkeypatch.setattr(pair.bob._channels, "verifier", counting)
    asking = await stranger()
    static, ephemeral = ephemeral_dh_key(), ephemeral_dh_key()
    state, message1 = noise.write1(noise.SymmetricState.start(), ephemeral)
    asking.send(Route.of("api"), Route.of("x"), message1)
    ((_, back, message2),) = await asking.wait(1)
    read = noise.read2(state, ephemeral, message2)
    for number in range(100):
        _, message3 = noise.write3(read.state, static, read.peer_ephemeral, bytes([number]))
        asking.send(back, Route.of("x"), message3)
    await asyncio.sleep(0.01)
    assert len(judged) == 3
    assert not pair.channels._pending


async def test_refusals_by_the_thousand_fill_neither_log_nor_events(
    pair: Any, stranger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    pair.bob._on_event = events.append
    await pair.start()
    flood = await stranger()
    caplog.set_level(logging.INFO)
    for _ in range(100):
        for _ in range(100):
            flood.send(Route.of("api"), Route.of("x"), b"short")
        await asyncio.sleep(0.1)
    refused = [event for event in events if isinstance(event, Refused)]
    said = [record for record in caplog.records if "refused" in record.getMessage()]
    assert 8 <= len(said) == len(refused) <= 14  # of those that the pace of handshakes let through
    assert said[-1].getMessage().endswith(f"({2 ** (len(said) - 1)} so far)")
    error = NotTrustedError(pair.alice.identity.identifier, "is not trusted here")
    pair.bob._channels.refused("api", error)  # the noise of strangers does not hide it
    assert events[-1] == Refused(str(error.peer), "api", str(error))
