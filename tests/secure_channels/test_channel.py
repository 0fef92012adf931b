"""Open channels between nodes: what they carry and through what, and when they end.

The tests named ``w…`` prove the answers to the weaknesses that a review of the protocol found in other
implementations. The network is in memory, and its clock jumps.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time as wall_clock
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import NotFoundError
from ockamlite.identities.local import LocalIdentity
from ockamlite.identities.store import MemoryStore
from ockamlite.limits import LIMITS
from ockamlite.routing.address import Address
from ockamlite.secure_channels.channel import PROBE_S
from ockamlite.secure_channels.trust import TrustIdentifiers
from tests.secure_channels.exchanges import opened, works

if TYPE_CHECKING:
    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received


DAY_S = 86_400


# -- what channels carry ---------------------------------------------------------------------------


async def test_messages_cross_both_ways_over_many_changes_of_keys(pair: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    ours, yours = pair.alice.context(), pair.bob.context()
    pair.alice.open(ours.address, channel)
    pair.bob.open(yours.address, pair.channels)
    for number in range(300):
        await ours.send(channel.route / yours.address, number.to_bytes(2, "big"))
        await yours.send(theirs.route / ours.address, number.to_bytes(2, "big"))
    for number in range(300):
        assert (await ours.receive(timeout_s=5)).payload == number.to_bytes(2, "big")
        assert (await yours.receive(timeout_s=5)).payload == number.to_bytes(2, "big")
    assert channel._sealer.sent > 200
    assert theirs._sealer.sent > 200


async def test_who_receives_knows_who_sent(pair: Any) -> None:
    await pair.start()
    channel, _ = await opened(pair)
    inbox = pair.bob.context("inbox")
    pair.bob.open("inbox", pair.channels)
    await pair.alice.context().send(channel.route / "inbox", b"hello")
    assert (await inbox.receive(timeout_s=5)).peer == pair.alice.identity.identifier
    await pair.bob.context().send("inbox", b"from myself")
    assert (await inbox.receive(timeout_s=5)).peer is None


async def test_channels_nest_three_deep_and_the_inner_end_with_the_outer(pair: Any) -> None:
    await pair.start()
    for name in ("second", "third"):
        pair.bob.secure_channel_listener(name, trust=TrustIdentifiers(pair.alice.identity.identifier))
    pair.bob.open("second", pair.channels)
    bob = TrustIdentifiers(pair.bob.identity.identifier)
    first = await pair.channel()
    second = await pair.alice.secure_channel(first.route / "second", trust=bob)
    pair.bob.open("third", *(c.flow for c in pair.bob._channels._channels))
    third = await pair.alice.secure_channel(second.route / "third", trust=bob)
    await third.confirmed
    for _ in range(100):
        assert await works(pair.alice, third)
    first.close()
    assert "closed here" in await third.closed
    assert "closed here" in await second.closed
    await asyncio.sleep(1)
    assert not pair.bob._channels._channels


async def test_a_channel_through_a_relay_is_end_to_end(pair: Any) -> None:
    """Bob is the relay, Carol registers there, Alice opens a channel to Carol through him."""
    await pair.start()
    relays = pair.bob.relay_service(open_to=(pair.listener.flow,))
    pair.bob.open(relays.addresses[0], pair.listener)
    async with pair.node() as carol:
        carol.secure_channel_listener("carols", trust=TrustIdentifiers(pair.alice.identity.identifier))
        registered = carol.register(carol.path("memory:bob"), name="carol", offer=["carols"])
        while "forward_to_carol" not in {a.name for a in pair.bob.router._table}:
            await asyncio.sleep(0.1)
        channel = await pair.alice.secure_channel(
            pair.link.route / "forward_to_carol" / "carols",
            trust=TrustIdentifiers(carol.identity.identifier),
        )
        await channel.confirmed
        for _ in range(100):
            assert await works(pair.alice, channel)
        secret = b"nobody in between reads this"
        pair.network.frames.clear()
        assert (await pair.alice.ask(channel.route / "echo", secret)).payload == secret
        assert not any(secret in frame for frame in pair.network.frames)
        assert registered is not None


async def test_a_message_that_is_none_is_ignored_and_the_channel_goes_on(pair: Any) -> None:
    await pair.start()
    channel, _ = await opened(pair)
    for plaintext in (
        b"",
        b"\x00",
        b"\x82\x82\x00\x81\x83",
        b"\x82\x82\x03\x80\x40",
        b"\x82\x82\x00\x80\x40",
        b"\xff" * 100,
        b"\x9f" * 2000,
        b"\x82\x82\x01\x81\x82\xa0\x80\x40",
        b"\x82\x82\x01\x81\x82\x80\x80\x40",
    ):
        channel._transmit(plaintext)
    assert await works(pair.alice, channel)


async def test_malformed_messages_of_a_peer_are_counted_not_listed(
    pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await pair.start()
    channel, _ = await opened(pair)
    for _ in range(1000):
        channel._transmit(b"\xff")
    assert await works(pair.alice, channel)
    lines = [record for record in caplog.records if "malformed message" in record.getMessage()]
    assert len(lines) == 10


async def test_w16_a_refresh_that_holds_brings_the_new_history_and_no_other_changes_anything(
    pair: Any,
) -> None:
    store = MemoryStore()
    now = int(wall_clock.time())
    identity = LocalIdentity.load_or_create(store, now=now)
    pair.alice = pair.node(identity=identity, store=store)
    await pair.start(trust=TrustIdentifiers(pair.alice.identity.identifier))
    channel, theirs = await opened(pair)
    before = theirs.identity
    other = LocalIdentity.ephemeral(now).identity.encoded
    for history in (other, b"\x80", identity.identity.encoded[:-1] + b"\x00", b"\x18\x18"):
        channel.send_refresh(history, ())
        assert await works(pair.alice, channel)
        assert theirs.identity == before
    identity.rotate(now + 1)
    channel.send_refresh(identity.identity.encoded, ())
    assert await works(pair.alice, channel)
    assert len(theirs.identity.identity.changes) == 2
    known = pair.bob.store.known_identity(identity.identifier)
    assert len(known.changes) == 2
    old = before.identity.encoded
    channel.send_refresh(old, ())
    assert await works(pair.alice, channel)
    assert len(theirs.identity.identity.changes) == 2


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_a_close_ends_both_ends_at_once_and_leaves_no_address(pair: Any, who: str) -> None:
    await pair.start()
    before = len(pair.alice.router), len(pair.bob.router)
    channel, theirs = await opened(pair)
    closing, other = (channel, theirs) if who == "alice" else (theirs, channel)
    closing.close()
    closing.close()
    assert await closing.closed == "closed here"
    assert await other.closed == "closed by the peer"
    assert (len(pair.alice.router), len(pair.bob.router)) == before
    assert not pair.channels.channels
    assert channel.confirmed.done()
    with pytest.raises(NotFoundError):
        await pair.alice.ask(channel.route / "echo", b"?")


async def test_w12_a_lost_close_is_noticed_by_the_silence(pair: Any, time: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    await asyncio.sleep(2 * PROBE_S)  # each has seen that the other answers
    pair.network.tamper = lambda frame: ()
    channel.close()
    pair.network.tamper = None
    began = time.now
    assert await theirs.closed == "the peer fell silent"
    assert time.now - began < 30


async def test_w12_a_dead_peer_is_noticed_on_both_sides_within_half_a_minute(pair: Any, time: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    await asyncio.sleep(2 * PROBE_S)
    pair.network.tamper = lambda frame: ()
    began = time.now
    assert await channel.closed == "the peer fell silent"
    assert await theirs.closed == "the peer fell silent"
    assert time.now - began < 30
    assert len(pair.alice.router) == 2  # echo and the link


async def test_w12_a_silent_pair_that_lives_stays_open_for_days(pair: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    await asyncio.sleep(2 * DAY_S)
    assert not channel.closed.done()
    assert not theirs.closed.done()
    assert await works(pair.alice, channel)


async def test_w12_a_short_outage_ends_nothing(pair: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    await asyncio.sleep(2 * PROBE_S)
    for _ in range(10):
        pair.network.tamper = lambda frame: ()
        await asyncio.sleep(1.9 * PROBE_S)
        pair.network.tamper = None
        await asyncio.sleep(2.1 * PROBE_S)
    assert not channel.closed.done()
    assert not theirs.closed.done()


async def test_w12_a_peer_that_answers_no_probe_is_let_go_after_the_idle_time(pair: Any, time: Any) -> None:
    limits = dataclasses.replace(LIMITS, channel_idle_s=100.0)
    pair.bob = pair.node(limits=limits)
    await pair.start()
    channel, theirs = await opened(pair)
    pair.alice.router.remove(Address.local("echo"))
    channel._look_timer.cancel()  # Alice's side asks nothing either
    began = time.now
    assert await theirs.closed == "idle for too long"
    assert 90 < time.now - began < 120
    assert await channel.closed == "closed by the peer"


async def test_w12_a_channel_ends_with_the_link_under_it(pair: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    pair.link.close()
    assert await channel.closed == "closed here"
    assert await theirs.closed == "closed by the peer"
    assert not pair.channels.channels


async def test_a_slow_worker_of_ours_is_not_taken_for_the_peers_silence(pair: Any) -> None:
    release = asyncio.Event()

    async def slow(context: Context, message: Received) -> None:
        await release.wait()

    await pair.start()
    channel, theirs = await opened(pair)
    await asyncio.sleep(2 * PROBE_S)
    pair.bob.start_worker("slow", slow)
    pair.bob.open("slow", pair.channels)
    context = pair.alice.context()
    for _ in range(2 * LIMITS.mailbox_messages):
        await context.send(channel.route / "slow", b"work")
    await asyncio.sleep(20 * PROBE_S)
    assert not channel.closed.done()
    assert not theirs.closed.done()
    release.set()
    assert await works(pair.alice, channel)


async def test_closing_a_node_tells_its_peers(pair: Any) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    await pair.alice.close()
    assert await channel.closed == "closed here"
    assert await theirs.closed == "closed by the peer"
