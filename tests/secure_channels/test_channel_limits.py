"""How many channels a listener keeps, and which give way."""

from __future__ import annotations

import asyncio
import dataclasses
import time as wall_clock
from typing import Any

import pytest

from ockamlite.errors import AnswerTimeoutError
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from tests.secure_channels.exchanges import stranger_core, works


async def test_a_full_listener_closes_the_channel_idle_for_longest_and_only_for_one_that_is_trusted(
    pair: Any, stranger: Any
) -> None:
    limits = dataclasses.replace(LIMITS, channels_per_listener=3)
    pair.bob = pair.node(limits=limits)
    alice = pair.alice.identity.identifier
    await pair.start(trust=TrustIdentifiers(alice))
    first, second, third = [await pair.channel() for _ in range(3)]
    for channel in (first, second, third):
        await channel.confirmed
    flood = await stranger()
    for message in (b"\x01" * 32, b"\x02" * 32, b"\x03" * 32):
        flood.send(Route.of("api"), Route.of("x"), message)
    await flood.wait(3)
    unwanted = stranger_core()
    back, message2 = await flood.handshake(unwanted)
    message3, _, _ = unwanted.receive(message2, lambda payload, key: None)
    flood.send(back, Route.of("x"), message3)
    await asyncio.sleep(1)
    assert len(pair.channels.channels) == 3
    # The link of the second goes deaf: nothing more is heard of it.
    theirs = list(pair.channels.channels)
    for kept in (theirs[0], theirs[2]):
        kept._idle_looks = 0
    theirs[1]._idle_looks = 2
    fourth = await pair.channel()
    await fourth.confirmed
    await second.closed
    assert not first.closed.done()
    assert not third.closed.done()
    assert len(pair.channels.channels) == 3


async def test_one_peer_has_so_many_channels_and_then_its_own_give_way(pair: Any) -> None:
    limits = dataclasses.replace(LIMITS, channels_per_peer=2)
    pair.bob = pair.node(limits=limits)
    await pair.start(trust=TrustEveryone())
    async with pair.node() as carol:
        other = await carol.secure_channel(
            (await carol.connect("memory:bob")).route / "api", trust=TrustEveryone()
        )
        await other.confirmed
        first, second = [await pair.channel() for _ in range(2)]
        await first.confirmed
        await second.confirmed
        theirs = list(pair.channels.channels)
        for channel, idle in zip(theirs, (3, 1, 2), strict=True):
            channel._idle_looks = idle
        third = await pair.channel()
        await third.confirmed
        await second.closed
        assert not first.closed.done()
        assert not other.closed.done()
        assert sum(map(len, pair.channels._of_peer.values())) == 3


async def test_a_full_listener_takes_the_place_from_who_has_most(pair: Any) -> None:
    limits = dataclasses.replace(LIMITS, channels_per_listener=3)
    pair.bob = pair.node(limits=limits)
    await pair.start(trust=TrustEveryone())
    first, second = [await pair.channel() for _ in range(2)]
    async with pair.node() as carol, pair.node() as dave:
        others = []
        for node in (carol, dave):
            route = (await node.connect("memory:bob")).route / "api"
            others.append(await node.secure_channel(route, trust=TrustEveryone()))
        for channel in (*others, second):
            await channel.confirmed
        await first.closed
        assert not any(channel.closed.done() for channel in (*others, second))
    for channel in (second, *others):
        channel.close()
    await asyncio.sleep(1)
    assert not pair.channels._of_peer


async def test_a_closed_listener_accepts_nothing_and_keeps_its_channels(pair: Any) -> None:
    await pair.start()
    channel = await pair.channel()
    await channel.confirmed
    pair.channels.close()
    with pytest.raises(AnswerTimeoutError):
        await pair.channel(timeout_s=3)
    assert await works(pair.alice, channel)
    pair.bob.secure_channel_listener("api", trust=TrustEveryone())
    pair.bob.open("api", pair.listener)
    assert await works(pair.alice, await pair.channel())


async def test_a_node_opens_a_channel_to_itself(time: Any) -> None:
    async with Node() as node:
        node.secure_channel_listener("api", trust=TrustEveryone())
        channel = await node.secure_channel(Route.of("api"), trust=TrustIdentifiers(node.identity.identifier))
        await channel.confirmed
        assert (await node.ask(channel.route / "echo", b"me")).payload == b"me"


async def test_strangers_are_not_remembered_and_push_out_nobody(pair: Any) -> None:
    """Whom everybody may be, nobody knows; the history of a known one is kept up to date all the same."""
    await pair.start(trust=TrustEveryone())
    store = pair.bob.store
    channel = await pair.channel()
    await channel.confirmed
    assert store.count_peers() == 0
    store.remember(pair.alice.identity.identity, int(wall_clock.time()))
    pair.alice.identity.rotate(int(wall_clock.time()))
    channel = await pair.channel()
    await channel.confirmed
    known = store.known_identity(pair.alice.identity.identifier)
    assert known is not None
    assert len(known.changes) == 2


async def test_a_key_and_a_payload_of_two_generations_are_never_shown_together(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.start()
    identity = pair.alice.identity
    payload = identity.handshake_payload
    rotated: list[bool] = []

    def late(now: int) -> bytes:
        if not rotated:
            rotated.append(True)
            identity.rotate(now)
        return payload(now)  # type: ignore[no-any-return]

    monkeypatch.setattr(identity, "handshake_payload", late)
    channel = await pair.channel()
    await channel.confirmed
    assert rotated
