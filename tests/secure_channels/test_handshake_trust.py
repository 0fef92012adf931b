"""Opening channels between nodes: who is trusted, and who is told what when somebody is not.

The tests named ``w1`` to ``w23`` prove the answers to the weaknesses that a review of the protocol
found in other implementations. The network is in memory, and its clock jumps.
"""

from __future__ import annotations

import asyncio
import time as wall_clock
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import AnswerTimeoutError, LinkClosedError, StateError, TrustError, VerificationError
from ockamlite.events import Refused
from ockamlite.identities.local import LocalIdentity
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from tests.secure_channels.exchanges import works

if TYPE_CHECKING:
    from ockamlite.events import Event
    from ockamlite.identities.identifier import Identifier


async def test_w7_whom_we_refuse_is_named_within_a_second_or_so(pair: Any, time: Any) -> None:
    await pair.start()
    other = LocalIdentity.ephemeral(int(wall_clock.time())).identifier
    began = time.now
    with pytest.raises(TrustError, match=f"{pair.bob.identity.identifier} is not trusted here"):
        await pair.channel(trust=TrustIdentifiers(other))
    assert time.now - began <= 1.1
    await asyncio.sleep(30)
    assert not pair.channels.channels
    assert len(pair.channels._pending) == 0


async def test_w7_who_refuses_us_says_so_in_its_log_and_never_confirms(
    pair: Any, time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    pair.bob._on_event = events.append
    await pair.start(trust=TrustIdentifiers(pair.bob.identity.identifier))
    channel = await pair.channel()
    with pytest.raises(AnswerTimeoutError) as caught:
        await pair.alice.ask(channel.route / "echo", b"?", timeout_s=2)
    assert "may not trust us" in caught.value.hint
    await asyncio.sleep(60)
    assert not channel.confirmed.done()
    alice = str(pair.alice.identity.identifier)
    refusals = [event for event in events if isinstance(event, Refused)]
    assert [(event.peer, event.at) for event in refusals] == [(alice, "api")]
    assert f"{alice} is not trusted here" in caplog.text
    channel.close()
    with pytest.raises(LinkClosedError, match="ended: closed here"):
        await channel.confirmed


async def test_each_listener_of_a_node_has_a_trust_of_its_own(pair: Any) -> None:
    await pair.start()
    alice: Identifier = pair.alice.identity.identifier
    asked: list[Identifier] = []

    def ask(identifier: Identifier) -> bool:
        asked.append(identifier)
        return identifier == alice

    for name, trust in (
        ("everyone", TrustEveryone()),
        ("alice", TrustIdentifiers(alice)),
        ("function", ask),
        ("nobody", TrustIdentifiers()),
        ("truthy", lambda identifier: "yes"),
    ):
        pair.bob.secure_channel_listener(name, trust=trust)
        pair.bob.open(name, pair.listener)
    accepted = []
    for name in ("everyone", "alice", "function", "nobody", "truthy"):
        channel = await pair.alice.secure_channel(
            pair.link.route / name, trust=TrustIdentifiers(pair.bob.identity.identifier)
        )
        await asyncio.wait([channel.confirmed], timeout=10)
        if channel.confirmed.done():
            accepted.append(name)
    assert accepted == ["everyone", "alice", "function"]
    assert asked == [alice]


async def test_w4_nothing_of_a_peer_is_kept_before_it_is_trusted(pair: Any) -> None:
    await pair.start(trust=TrustIdentifiers())
    for _ in range(5):
        async with pair.node() as somebody:
            link = await somebody.connect("memory:bob")
            channel = await somebody.secure_channel(link.route / "api", trust=TrustEveryone())
            await asyncio.sleep(1)
            assert not channel.confirmed.done()
    assert pair.bob.store.count_peers() == 0
    with pytest.raises(TrustError):
        await pair.channel(trust=TrustIdentifiers())
    assert pair.alice.store.count_peers() == 0
    await pair.channel()
    assert pair.alice.store.count_peers() == 1


async def test_w6_a_node_shows_no_credential_to_whoever_asks(pair: Any) -> None:
    payload = pair.bob.identity.handshake_payload(int(wall_clock.time()))
    assert payload.endswith(b"\x80")


async def test_w17_an_old_key_that_was_rotated_away_is_refused_if_changes_are_pinned(pair: Any) -> None:
    await pair.start()
    bob = pair.bob.identity.identifier
    with pytest.raises(TrustError, match="presents 1 of at least 2 changes"):
        await pair.channel(trust=TrustIdentifiers(bob, min_changes={bob: 2}))


async def test_w23_a_peer_whose_clock_is_a_day_ahead_is_refused_and_the_clock_is_named(
    pair: Any, time: Any, shifted_identity: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await pair.start()
    bob, right = shifted_identity(86_400), pair.bob.identity
    pair.bob._channels._identity = bob
    began = time.now
    with pytest.raises(VerificationError, match="created in the future"):
        await pair.channel(trust=TrustIdentifiers(bob.identifier))
    assert time.now - began <= 1.1
    pair.bob._channels._identity = right
    async with pair.node(identity=shifted_identity(86_400)) as ahead:
        link = await ahead.connect("memory:bob")
        channel = await ahead.secure_channel(link.route / "api", trust=TrustIdentifiers(right.identifier))
        await asyncio.sleep(5)
        assert not channel.confirmed.done()
    assert "secure channel refused at api: " in caplog.text
    assert "is the clock right on both sides?" in caplog.text


async def test_w23_a_clock_set_back_a_day_ends_no_channel_and_is_named_when_one_is_opened(
    pair: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Yesterday:
        @staticmethod
        def time() -> float:
            return wall_clock.time() - 86_400

    await pair.start()
    channel = await pair.channel()
    monkeypatch.setattr("ockamlite.secure_channels.handshake.time", Yesterday)
    assert await works(pair.alice, channel)
    await asyncio.sleep(86_400)
    assert await works(pair.alice, channel)
    with pytest.raises(StateError, match="created in the future") as caught:
        await pair.channel()
    assert "clock" in caught.value.hint
    assert await works(pair.alice, channel)


async def test_a_state_that_cannot_be_read_refuses_the_peer_and_keeps_the_link(
    pair: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await pair.start()

    def broken(identifier: Identifier) -> None:
        raise StateError("the disk is gone")

    monkeypatch.setattr(pair.alice.store, "known_identity", broken)
    with pytest.raises(StateError, match="the disk is gone"):
        await pair.channel()
    monkeypatch.undo()
    monkeypatch.setattr(pair.bob.store, "known_identity", broken)
    channel = await pair.channel()
    await asyncio.sleep(5)
    assert not channel.confirmed.done()
    assert "secure channel refused at api: the disk is gone" in caplog.text
    assert not pair.link.closed.done()


async def test_a_state_that_cannot_be_written_opens_channels_and_fills_no_log(
    pair: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await pair.start()

    def full(*_: object, **__: object) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(pair.bob.store, "remember", full)
    for _ in range(20):
        assert await works(pair.alice, await pair.channel())
    said = [record for record in caplog.records if "cannot be remembered" in record.getMessage()]
    assert len(said) == 5
