"""Opening channels between nodes: on bad lines, with bad peers, and who is told what when it fails.

The tests named ``w1`` to ``w23`` prove the answers to the weaknesses that a review of the protocol
found in other implementations. The network is in memory, and its clock jumps.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time as wall_clock
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import (
    AnswerTimeoutError,
    LinkClosedError,
    NotFoundError,
    StateError,
    TrustError,
    VerificationError,
)
from ockamlite.events import Refused
from ockamlite.identities.local import LocalIdentity
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.address import Address
from ockamlite.routing.codec import decode_message
from ockamlite.routing.route import Route
from ockamlite.secure_channels import noise
from ockamlite.secure_channels.protocol import Initiator
from ockamlite.secure_channels.trust import NotTrustedError, TrustEveryone, TrustIdentifiers
from ockamlite.vault.software import ephemeral_dh_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ockamlite.events import Event
    from ockamlite.identities.identifier import Identifier

MESSAGES = {1: 0, 2: 1, 3: 2}
"""Which frame between Alice and Bob carries which message of the handshake."""


def flipped(frame: bytes, behind: int) -> bytes:
    """A frame with one bit changed, so many bytes before its end."""
    at = len(frame) - 1 - behind
    return frame[:at] + bytes((frame[at] ^ 1,)) + frame[at + 1 :]


def stranger_core(identity: LocalIdentity | None = None) -> Initiator:
    now = int(wall_clock.time())
    identity = identity or LocalIdentity.ephemeral(now)
    static, _ = identity.secure_channel_key(now)
    return Initiator(static, ephemeral_dh_key(), identity.handshake_payload(now))


async def works(pair: Any, channel: Any) -> bool:
    """True if what Alice sends through the channel is answered by Bob."""
    answer = await pair.alice.ask(channel.route / "echo", b"there and back", timeout_s=60)
    return bool(answer.payload == b"there and back")


# -- bad lines -------------------------------------------------------------------------------------


async def test_a_channel_opens_and_both_know_it_and_whom_they_have(pair: Any) -> None:
    await pair.start()
    channel = await pair.channel()
    await channel.confirmed
    (theirs,) = pair.channels.channels
    await theirs.confirmed
    assert channel.peer == pair.bob.identity.identifier
    assert theirs.peer == pair.alice.identity.identifier
    assert await works(pair, channel)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_lost_message_of_the_handshake_costs_seconds_not_the_channel(
    pair: Any, time: Any, number: int
) -> None:
    await pair.start()
    pair.network.spoil(lambda n, frame: () if n == MESSAGES[number] else (frame,))
    began = time.now
    channel = await pair.channel()
    await channel.confirmed
    assert await works(pair, channel)
    assert time.now - began < 2.5


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_message_of_the_handshake_that_comes_twice_changes_nothing(pair: Any, number: int) -> None:
    await pair.start()
    pair.network.spoil(lambda n, frame: (frame, frame) if n == MESSAGES[number] else (frame,))
    channel = await pair.channel()
    assert await works(pair, channel)
    assert len(pair.channels.channels) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("behind", [0, 20])
async def test_a_damaged_message_of_the_handshake_costs_seconds_not_the_channel(
    pair: Any, time: Any, number: int, behind: int
) -> None:
    await pair.start()
    pair.network.spoil(lambda n, frame: (flipped(frame, behind),) if n == MESSAGES[number] else (frame,))
    began = time.now
    channel = await pair.channel()
    await channel.confirmed
    assert await works(pair, channel)
    assert time.now - began < 4


async def test_every_third_frame_lost_still_gives_a_channel(pair: Any) -> None:
    await pair.start()
    pair.network.spoil(lambda n, frame: () if n % 3 == 0 else (frame,))
    channel = await pair.channel()
    await channel.confirmed


async def test_nobody_there_is_a_time_out_that_says_what_may_be_wrong(pair: Any, time: Any) -> None:
    await pair.start()
    pair.network.tamper = lambda frame: ()
    before = len(pair.alice.router)
    began = time.now
    with pytest.raises(AnswerTimeoutError, match="api: no answer within 5 s") as caught:
        await pair.channel(timeout_s=5)
    assert time.now - began == pytest.approx(5)
    assert "may not trust us" in caught.value.hint
    assert len(pair.alice.router) == before
    assert not pair.link.flow.watchers


async def test_only_damaged_answers_are_named_in_the_time_out(pair: Any) -> None:
    await pair.start()
    pair.network.tamper = lambda frame: (flipped(frame, 0),)
    with pytest.raises(AnswerTimeoutError, match="no secure channel along"):
        await pair.channel(timeout_s=5)
    assert not pair.channels.channels


async def test_a_first_hop_that_does_not_exist_is_an_error_at_once(pair: Any) -> None:
    await pair.start()
    for route in (Route.of("nobody", "api"), Route()):
        with pytest.raises(NotFoundError):
            await pair.alice.secure_channel(route, trust=TrustEveryone())
    assert len(pair.alice.router) == 2  # echo and the link


async def test_a_link_that_ends_ends_the_wait_for_a_channel(pair: Any) -> None:
    await pair.start()
    pair.network.tamper = lambda frame: ()
    opening = asyncio.ensure_future(pair.channel(timeout_s=3600))
    await asyncio.sleep(0)
    pair.link.close()
    with pytest.raises(LinkClosedError, match="no secure channel: closed here"):
        await opening


async def test_a_cancelled_opening_leaves_nothing_even_if_it_just_succeeded(pair: Any) -> None:
    await pair.start()
    before = len(pair.alice.router)
    for steps in range(40):
        opening = asyncio.ensure_future(pair.channel())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled():
            opening.result().close()
            break
        assert len(pair.alice.router) == before, f"cancelled after {steps} steps"
    else:
        raise AssertionError("it never succeeded")
    await asyncio.sleep(1)
    assert not pair.channels.channels


# -- who is trusted, and who is told ---------------------------------------------------------------


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
    assert await works(pair, channel)
    await asyncio.sleep(86_400)
    assert await works(pair, channel)
    with pytest.raises(StateError, match="created in the future") as caught:
        await pair.channel()
    assert "clock" in caught.value.hint
    assert await works(pair, channel)


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


# -- W1, W2: what strangers can make us hold and do ------------------------------------------------


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
    assert await works(pair, await pair.channel(timeout_s=1))
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
    assert await works(pair, await pair.channel(timeout_s=1))
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
    assert await works(pair, await pair.channel(timeout_s=1))
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
    assert await works(pair, await pair.channel(timeout_s=1))


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


# -- W3: a bad message does not spoil the good one -------------------------------------------------


def behind_and_all(frame: bytes) -> list[bytes]:
    """Spoiled copies of a frame: each part of its payload damaged, shortened, replaced."""
    _, _, payload = decode_message(frame)
    size = len(payload)
    spoiled = [flipped(frame, behind) for behind in (0, 15, 16, 40, size - 1, size - 33, size - 81)]
    head = frame[: len(frame) - size]
    assert head.endswith((size).to_bytes(2, "big"))
    shorter = [head[:-2] + n.to_bytes(2, "big") + payload[:n] for n in (256, size - 1)]
    return [*spoiled, *shorter, head + bytes(size)]


@pytest.mark.parametrize("number", [2, 3])
async def test_w3_bad_messages_before_the_good_one_change_nothing(pair: Any, time: Any, number: int) -> None:
    await pair.start()
    pair.network.spoil(
        lambda n, frame: (*behind_and_all(frame), frame) if n == MESSAGES[number] else (frame,)
    )
    began = time.now
    channel = await pair.channel()
    await channel.confirmed
    assert await works(pair, channel)
    assert time.now - began < 0.1


async def test_w3_the_answer_of_an_impostor_before_the_good_one_changes_nothing(pair: Any) -> None:
    await pair.start()
    async with pair.node() as mallory:
        now = int(wall_clock.time())
        static, _ = mallory.identity.secure_channel_key(now)
        from ockamlite.secure_channels.protocol import Responder

        def impostor(n: int, frame: bytes) -> Iterable[bytes]:
            if n == MESSAGES[1]:
                self_made.append(
                    Responder(
                        static,
                        ephemeral_dh_key(),
                        mallory.identity.handshake_payload(now),
                        bytes(decode_message(frame)[2]),
                    ).message2
                )
            if n == MESSAGES[2]:
                _, _, payload = decode_message(frame)
                head = frame[: len(frame) - len(payload)]
                assert len(self_made[0]) == len(payload)
                return (head + self_made[0], frame)
            return (frame,)

        self_made: list[bytes] = []
        pair.network.spoil(impostor)
        channel = await pair.channel()
        assert channel.peer == pair.bob.identity.identifier
        assert await works(pair, channel)


async def test_data_that_overtakes_message_3_is_lost_and_the_channel_still_opens(pair: Any) -> None:
    held: list[bytes] = []

    def late(n: int, frame: bytes) -> Iterable[bytes]:
        if n == MESSAGES[3]:
            held.append(frame)
            return ()
        if n == MESSAGES[3] + 1:
            return (frame, *held)
        return (frame,)

    await pair.start()
    pair.network.spoil(late)
    channel = await pair.channel()
    await channel.confirmed
    assert await works(pair, channel)


async def test_message_3_over_another_link_is_not_taken(pair: Any, stranger: Any) -> None:
    await pair.start()
    asking, other = await stranger(), await stranger()
    core = stranger_core()
    back, message2 = await asking.handshake(core)
    message3, _, _ = core.receive(message2, lambda payload, key: None)
    other.send(back, Route.of("stranger"), message3)
    await asyncio.sleep(0.01)
    assert not pair.channels.channels
    asking.send(back, Route.of("stranger"), message3)
    await asyncio.sleep(0.01)
    assert len(pair.channels.channels) == 1


async def test_nothing_keeps_the_keys_of_a_finished_handshake(pair: Any) -> None:
    import gc

    from ockamlite.secure_channels.protocol import Responder

    await pair.start()
    channel = await pair.channel()
    await channel.confirmed
    await asyncio.sleep(10)
    gc.collect()
    alive = [one for one in gc.get_objects() if isinstance(one, Initiator | Responder)]
    assert alive == []


# -- limits of open channels -----------------------------------------------------------------------


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
    assert await works(pair, channel)
    pair.bob.secure_channel_listener("api", trust=TrustEveryone())
    pair.bob.open("api", pair.listener)
    assert await works(pair, await pair.channel())


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
