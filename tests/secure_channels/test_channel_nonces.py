"""Open channels between nodes: what lost, late and repeated messages do.

The tests named ``w…`` prove the answers to the weaknesses that a review of the protocol found in other
implementations. The network is in memory, and its clock jumps.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.limits import LIMITS
from ockamlite.routing.codec import encode_message_head
from ockamlite.routing.route import EMPTY_ROUTE, Route
from ockamlite.secure_channels.nonces import NONCE_BYTES
from tests.secure_channels.exchanges import opened, works

if TYPE_CHECKING:
    from collections.abc import Iterable


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
