"""Opening channels between nodes: on bad lines, and with bad messages before the good ones.

The tests named ``w1`` to ``w23`` prove the answers to the weaknesses that a review of the protocol
found in other implementations. The network is in memory, and its clock jumps.
"""

from __future__ import annotations

import asyncio
import time as wall_clock
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.errors import AnswerTimeoutError, LinkClosedError, NotFoundError
from ockamlite.routing.codec import decode_message
from ockamlite.routing.route import Route
from ockamlite.secure_channels.protocol import Initiator
from ockamlite.secure_channels.trust import TrustEveryone
from ockamlite.vault.software import ephemeral_dh_key
from tests.secure_channels.exchanges import MESSAGES, flipped, stranger_core, works

if TYPE_CHECKING:
    from collections.abc import Iterable


# -- bad lines -------------------------------------------------------------------------------------


async def test_a_channel_opens_and_both_know_it_and_whom_they_have(pair: Any) -> None:
    await pair.start()
    channel = await pair.channel()
    await channel.confirmed
    (theirs,) = pair.channels.channels
    await theirs.confirmed
    assert channel.peer == pair.bob.identity.identifier
    assert theirs.peer == pair.alice.identity.identifier
    assert await works(pair.alice, channel)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_lost_message_of_the_handshake_costs_seconds_not_the_channel(
    pair: Any, time: Any, number: int
) -> None:
    await pair.start()
    pair.network.spoil(lambda n, frame: () if n == MESSAGES[number] else (frame,))
    began = time.now
    channel = await pair.channel()
    await channel.confirmed
    assert await works(pair.alice, channel)
    assert time.now - began < 2.5


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_message_of_the_handshake_that_comes_twice_changes_nothing(pair: Any, number: int) -> None:
    await pair.start()
    pair.network.spoil(lambda n, frame: (frame, frame) if n == MESSAGES[number] else (frame,))
    channel = await pair.channel()
    assert await works(pair.alice, channel)
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
    assert await works(pair.alice, channel)
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
    assert await works(pair.alice, channel)
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
        assert await works(pair.alice, channel)


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
    assert await works(pair.alice, channel)


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
