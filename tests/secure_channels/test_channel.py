"""Open channels between nodes: what they carry and through what, when they end, and who cannot use them.

The tests named ``w…`` prove the answers to the weaknesses that a review of the protocol found in other
implementations. The network is in memory, and its clock jumps.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time as wall_clock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import AnswerTimeoutError, LinkClosedError, NotFoundError
from ockamlite.identities.local import LocalIdentity
from ockamlite.identities.store import MemoryStore
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.address import Address
from ockamlite.routing.codec import decode_message, encode_message_head
from ockamlite.routing.route import EMPTY_ROUTE, Route
from ockamlite.secure_channels.channel import PROBE_S
from ockamlite.secure_channels.nonces import NONCE_BYTES
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ockamlite.routing.message import Message
    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received

DAY_S = 86_400


async def answers(context: Context, message: Received) -> None:
    await context.reply(message, message.payload)


async def opened(pair: Any, **options: Any) -> tuple[Any, Any]:
    """Both ends of a channel."""
    channel = await pair.channel(**options)
    await channel.confirmed
    return channel, list(pair.channels.channels)[-1]


async def works(node: Node, channel: Any) -> bool:
    answer = await node.ask(channel.route / "echo", b"there and back", timeout_s=60)
    return answer.payload == b"there and back"


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
        registered = carol.register(carol.path("memory:bob"), "carol", offer=["carols"])
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


# -- W9, W10: nonces -------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [31, 32, 33, 64, 500, 2000])
async def test_w9_a_channel_hears_again_after_a_burst_of_losses(pair: Any, lost: int) -> None:
    await pair.start()
    channel, _ = await opened(pair)
    inbox = pair.bob.context("inbox")
    pair.bob.open("inbox", pair.channels)
    pair.network.tamper = lambda frame: ()
    context = pair.alice.context()
    for _ in range(lost):
        await context.send(channel.route / "inbox", b"lost")
    pair.network.tamper = None
    await context.send(channel.route / "inbox", b"heard")
    assert (await inbox.receive(timeout_s=1)).payload == b"heard"
    assert await works(pair.alice, channel)


def to_decryptor(pair: Any, theirs: Any, payload: bytes) -> bytes:
    """A frame, as Alice's link carries it, to the decryptor of Bob's end."""
    from ockamlite.cbor import bytes_head

    onward = Route((theirs._decryptor,))
    return encode_message_head(onward, EMPTY_ROUTE) + bytes_head(len(payload)) + payload


async def test_w9_w10_forged_nonces_cost_no_state_and_few_keys_and_do_not_deafen(
    pair: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    derived: list[int] = []
    from ockamlite.secure_channels import nonces

    rekey = nonces.rekey
    monkeypatch.setattr(nonces, "rekey", lambda cipher: (derived.append(1), rekey(cipher))[1])
    await pair.start()
    _, theirs = await opened(pair)
    link = next(iter(pair.listener.links))
    opener = theirs._opener
    derived.clear()
    for nonce in (*range(10_000), *(1 << n for n in range(64)), (1 << 64) - 1):
        forged = nonce.to_bytes(NONCE_BYTES, "big") + bytes(40)
        link.frame_received(memoryview(to_decryptor(pair, theirs, forged)))
    assert len(derived) <= LIMITS.forward_jump_messages // 32 + 1
    assert len(opener._ahead) <= LIMITS.forward_jump_messages // 32 + 1
    assert not opener._past
    channel = next(iter(pair.alice._channels._channels))
    for _ in range(100):
        assert await works(pair.alice, channel)


async def test_a_replayed_message_is_dropped(pair: Any) -> None:
    await pair.start()
    channel, _ = await opened(pair)
    inbox = pair.bob.context("inbox")
    pair.bob.open("inbox", pair.channels)
    pair.network.tamper = lambda frame: (frame, frame, frame)
    context = pair.alice.context()
    for number in range(50):
        await context.send(channel.route / "inbox", bytes([number]))
    pair.network.tamper = None
    await context.send(channel.route / "inbox", b"end")
    got = []
    while (payload := (await inbox.receive(timeout_s=1)).payload) != b"end":
        got.append(payload[0])
    assert got == list(range(50))


async def test_damaged_messages_are_dropped_and_the_others_arrive(pair: Any) -> None:
    await pair.start()
    channel, _ = await opened(pair)
    inbox = pair.bob.context("inbox")
    pair.bob.open("inbox", pair.channels)

    def spoil(number: int, frame: bytes) -> Iterable[bytes]:
        return (frame[:-1] + bytes((frame[-1] ^ 0x80,)),) if number % 3 == 1 else (frame,)

    pair.network.spoil(spoil)
    context = pair.alice.context()
    for number in range(90):
        await context.send(channel.route / "inbox", bytes([number]))
    await asyncio.sleep(0.01)
    got = [(await inbox.receive(timeout_s=1)).payload[0] for _ in range(60)]
    assert got == [number for number in range(90) if number % 3 != 1]


# -- W11, W14: who can use a channel ---------------------------------------------------------------


async def test_w11_a_route_changed_on_the_way_redirects_nothing(pair: Any, stranger: Any) -> None:
    await pair.start()
    channel, _ = await opened(pair)
    elsewhere = Route.of("elsewhere")
    redirected: list[bytes] = []

    def redirect(frame: bytes) -> Iterable[bytes]:
        from ockamlite.cbor import bytes_head

        onward, back, payload = decode_message(frame)
        if not back:  # a message of the channel, not of a handshake
            redirected.append(frame)
            return (encode_message_head(onward, elsewhere) + bytes_head(len(payload)) + payload,)
        return (frame,)

    pair.network.tamper = redirect
    for _ in range(40):
        assert await works(pair.alice, channel)
    assert redirected
    assert elsewhere[0] not in {a for frame in pair.network.frames for a in decode_message(frame)[0]}


async def test_w11_a_message_taken_to_another_link_does_not_move_the_channel(
    pair: Any, stranger: Any
) -> None:
    await pair.start()
    channel, _theirs = await opened(pair)
    thief = await stranger()
    stolen: list[bytes] = []

    def steal(frame: bytes) -> Iterable[bytes]:
        stolen.append(frame)
        return ()

    pair.network.tamper = steal
    await pair.alice.context().send(channel.route / "echo", b"stolen")
    pair.network.tamper = None
    onward, _, payload = decode_message(stolen[0])
    thief.send(onward, Route.of("thief"), bytes(payload))
    await asyncio.sleep(0.1)
    assert not thief.got
    assert await works(pair.alice, channel)
    assert not thief.got


async def test_w14_nobody_outside_reaches_the_encryptor_of_somebody_elses_channel(
    pair: Any, stranger: Any
) -> None:
    await pair.start()
    channel, theirs = await opened(pair)
    inbox = pair.alice.context("inbox")
    pair.alice.open("inbox", channel)
    outsider = await stranger()
    alices_link = next(iter(pair.listener.links))
    for first in (theirs.address, alices_link.address):
        outsider.send(Route((first, Address.local("inbox"))), Route.of("x"), b"as if from Bob")
    async with pair.node() as mallory:
        link = await mallory.connect("memory:bob")
        hers = await mallory.secure_channel(link.route / "api", trust=TrustEveryone())
        context = mallory.context()
        for first in (theirs.address, alices_link.address, theirs._decryptor):
            await context.send(hers.route / first / "inbox", b"as if from Bob")
        assert await works(mallory, hers)
    dropped = pair.bob.router.dropped
    assert dropped >= 4
    await asyncio.sleep(0.1)
    with pytest.raises(AnswerTimeoutError):
        await inbox.receive(timeout_s=1)


async def test_w14_the_peer_reaches_what_is_opened_to_the_channel_and_nothing_else(pair: Any) -> None:
    await pair.start()
    told: list[Message] = []
    channel, theirs = await opened(pair)
    for name in ("opened", "hidden"):
        pair.bob.router.add(Address.local(name), told.append)
    pair.bob.open("opened", pair.channels)
    context = pair.alice.context()
    for route in (
        Route.of("hidden"),
        Route.of("api"),
        Route((theirs.address,)),
        Route((Address(1, b"127.0.0.1:9"),)),
        Route(),
        Route.of("opened"),
    ):
        await context.send(channel.route / route, b"?")
    await works(pair.alice, channel)
    assert [message.onward for message in told] == [Route.of("opened")]


async def test_a_frame_that_grew_too_long_on_its_way_ends_no_link(pair: Any, stranger: Any) -> None:
    await pair.start()
    channel, _ = await opened(pair)
    other = await stranger()
    long = Route(Address.local(f"hop{n}") for n in range(LIMITS.route_hops))
    other.send(Route.of("echo"), long, b"")
    other.send(Route.of("echo"), Route((Address.local("x" * 1025),)), b"")
    other.link.send(b"\x00", b"not a message")
    other.send(Route.of("echo"), Route.of("alive"), b"")
    ((onward, _, _),) = await other.wait(1)
    assert onward == Route.of("alive")
    assert await works(pair.alice, channel)


# -- W15: trust that ends --------------------------------------------------------------------------


async def test_w15_a_channel_ends_when_the_attestation_of_its_peer_expires(
    pair: Any, time: Any, shifted_identity: Any
) -> None:
    from ockamlite.identities.local import ATTESTATION_LIFETIME_S

    old = shifted_identity(0)
    now = int(wall_clock.time())
    pair.bob = pair.node()
    inner = LocalIdentity.ephemeral(now - ATTESTATION_LIFETIME_S + DAY_S)
    inner.secure_channel_key(now - ATTESTATION_LIFETIME_S + DAY_S)
    old._identity, old._seconds = inner, -ATTESTATION_LIFETIME_S + DAY_S
    pair.bob._channels._identity = old
    pair.bob.identity = old
    await pair.start()
    channel, theirs = await opened(pair)
    began = time.now
    assert await channel.closed == "the peer's purpose key has expired"
    assert time.now - began == pytest.approx(DAY_S, abs=60)
    assert await theirs.closed == "closed by the peer"


async def rotating(pair: Any) -> tuple[LocalIdentity, Any]:
    """Alice has an identity that can be rotated, Bob has a channel with her."""
    store = MemoryStore()
    identity = LocalIdentity.load_or_create(store, now=int(wall_clock.time()) - 100)
    pair.alice = pair.node(identity=identity, store=store)
    await pair.start()
    channel, _ = await opened(pair)
    return identity, channel


async def test_w15_a_revocation_in_a_new_handshake_ends_the_older_channels_of_that_peer_alone(
    pair: Any,
) -> None:
    identity, first = await rotating(pair)
    async with pair.node() as carol:
        link = await carol.connect("memory:bob")
        carols = await carol.secure_channel(link.route / "api", trust=TrustEveryone())
        await carols.confirmed
        identity.rotate(int(wall_clock.time()), revoke=True)
        second, _ = await opened(pair)
        assert await first.closed == "closed by the peer"
        await asyncio.sleep(1)
        assert await works(pair.alice, second)
        assert await works(carol, carols)


async def test_w15_a_revocation_in_a_refresh_ends_that_channel_and_the_others(pair: Any) -> None:
    identity, first = await rotating(pair)
    second, theirs = await opened(pair)
    identity.rotate(int(wall_clock.time()), revoke=True)
    second.send_refresh(identity.identity.encoded, ())
    assert await theirs.closed == "the peer has revoked the key that opened it"
    assert await first.closed == "closed by the peer"
    assert await second.closed == "closed by the peer"
    assert not pair.channels.channels


async def test_w15_a_rotation_without_revocation_ends_nothing(pair: Any) -> None:
    identity, first = await rotating(pair)
    identity.rotate(int(wall_clock.time()))
    second, _ = await opened(pair)
    await asyncio.sleep(60)
    assert await works(pair.alice, first)
    assert await works(pair.alice, second)


async def test_an_ended_channel_cannot_be_waited_for(pair: Any) -> None:
    await pair.start(trust=TrustIdentifiers())
    channel = await pair.channel()
    waiting = asyncio.ensure_future(asyncio.shield(channel.confirmed))
    await asyncio.sleep(0)
    pair.link.close()
    with pytest.raises(LinkClosedError, match=r"secure channel with I.* ended: closed here"):
        await waiting


def _noting(sealer: Any, lengths: list[int]) -> Any:
    """A sealer that notes how long the messages are."""

    def seal(data: bytes) -> bytes:
        lengths.append(len(data))
        sealed: bytes = sealer.seal(data)
        return sealed

    return SimpleNamespace(seal=seal)


async def test_w13_a_node_hides_the_lengths_of_what_it_sends() -> None:
    sizes: dict[bool, set[int]] = {}
    for hide in (False, True):
        async with Node(hide_lengths=hide) as alice, Node() as bob:
            listener = bob.secure_channel_listener("listener", trust=TrustEveryone())
            echoes = bob.start_worker("echoes", answers)
            bob.open(echoes, listener)
            links = await bob.listen("tcp:127.0.0.1:0")
            bob.open(listener.address, links)
            link = await alice.connect(links.endpoint)
            channel = await alice.secure_channel(link.route / "listener", trust=TrustEveryone())
            sent: list[int] = []
            channel._sealer = _noting(channel._sealer, sent)
            for size in range(0, 60, 7):
                assert (await alice.ask(channel.route / "echoes", bytes(size))).payload == bytes(size)
            sizes[hide] = set(sent)
    assert len(sizes[False]) > 5
    assert sizes[True] <= {64, 256}
