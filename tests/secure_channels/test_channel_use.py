"""Open channels between nodes: who can use them, and trust that ends.

The tests named ``w…`` prove the answers to the weaknesses that a review of the protocol found in other
implementations. The network is in memory, and its clock jumps.
"""

from __future__ import annotations

import asyncio
import time as wall_clock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import AnswerTimeoutError, LinkClosedError
from ockamlite.identities.local import LocalIdentity
from ockamlite.identities.store import MemoryStore
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.address import Address
from ockamlite.routing.codec import decode_message, encode_message_head
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from ockamlite.wire.gate import Gate
from tests.secure_channels.exchanges import answers, opened, works

if TYPE_CHECKING:
    from collections.abc import Iterable


DAY_S = 86_400


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


@pytest.mark.parametrize("is_link", [True, False], ids=["a full link", "a slow worker"])
async def test_a_silent_peer_is_waited_for_because_of_a_worker_but_not_of_a_full_link(
    pair: Any, is_link: bool
) -> None:
    await pair.start()
    channel, accepted = await opened(pair)
    gate = Gate(asyncio.get_running_loop())
    gate.owner = next(iter(pair.bob._links)) if is_link else None
    gate.shut()
    came: list[bytes] = []

    def full(message: Message) -> Gate:
        came.append(bytes(message.payload))
        return gate

    pair.bob.router.add(Address.local("full"), full)
    pair.bob.open("full", accepted)
    pair.alice.router.deliver(Message(channel.route / "full", Route(), b"one"))
    while not came:
        await asyncio.sleep(0.01)
    assert accepted.flow.is_held is not is_link
    gate.open()
