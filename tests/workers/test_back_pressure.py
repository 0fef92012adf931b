"""A slow worker slows whoever sends to it, near or far; nothing is dropped and nothing grows."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

from ockamlite.links import HeldFlow
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone
from ockamlite.workers.mailbox import Mailbox

if TYPE_CHECKING:
    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received


class Slow:
    """Handles one message for each permit it is given."""

    def __init__(self) -> None:
        self.permits = asyncio.Semaphore(0)
        self.got: list[int] = []
        self.changed = asyncio.Event()

    async def handle(self, context: Context, message: Received) -> None:
        await self.permits.acquire()
        self.got.append(int.from_bytes(message.payload[:4], "big"))
        self.changed.set()

    async def wait(self, count: int) -> list[int]:
        while len(self.got) < count:
            self.changed.clear()
            await self.changed.wait()
        return self.got

    def let(self, count: int) -> None:
        for _ in range(count):
            self.permits.release()


async def settle() -> None:
    """Let everything happen that can happen without anybody's permit."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_local_sender_waits_for_a_slow_worker(joined: Any) -> None:
    slow = Slow()
    joined.here.start_worker("slow", slow.handle)
    context = joined.here.context()
    sent = 0

    async def send() -> None:
        nonlocal sent
        for number in range(100):
            await context.send("slow", number.to_bytes(4, "big"))
            sent += 1

    sender = asyncio.ensure_future(send())
    await settle()
    # One in the hands of the worker, eight in its mailbox; the sender waits with the next in it.
    assert sent <= 9
    slow.let(5)
    await slow.wait(5)
    await settle()
    assert sent <= 14
    slow.let(95)
    assert await slow.wait(100) == list(range(100))
    await sender


async def test_many_local_senders_add_one_message_each_and_all_arrive(joined: Any) -> None:
    slow = Slow()
    joined.here.start_worker("slow", slow.handle)

    async def send(first: int) -> None:
        context = joined.here.context()
        for number in range(10):
            await context.send("slow", (first + number).to_bytes(4, "big"))

    senders = [asyncio.ensure_future(send(100 * n)) for n in range(20)]
    await settle()
    waiting = joined.here._contexts[next(a for a in joined.here._contexts if a.body == b"slow")][0].mailbox
    assert len(waiting._queue) <= 8 + 20
    slow.let(200)
    got = await slow.wait(200)
    for n in range(20):
        assert [number for number in got if number // 100 == n] == list(range(100 * n, 100 * n + 10))
    await asyncio.gather(*senders)


async def remote_sender_waits(joined: Any, slow: Slow, route: object, total: int, size: int) -> None:
    context = joined.here.context()
    sent = 0

    async def send() -> None:
        nonlocal sent
        for number in range(total):
            await context.send(route, number.to_bytes(4, "big") + bytes(size))  # type: ignore[arg-type]
            sent += 1

    sender = asyncio.ensure_future(send())
    slow.let(1)
    await slow.wait(1)
    last = -1
    while last != sent:  # until nothing moves any more
        last = sent
        for _ in range(200):
            await asyncio.sleep(0)
    assert not sender.done()
    mailbox = next(c.mailbox for a, (c, _) in joined.there._contexts.items() if a.body == b"slow")
    assert len(mailbox._queue) <= 9
    slow.let(total)
    assert await slow.wait(total) == list(range(total))
    await sender


async def test_a_remote_sender_waits_for_a_slow_worker_and_nothing_is_dropped(joined: Any) -> None:
    slow = Slow()
    joined.there.start_worker("slow", slow.handle)
    joined.there.open("slow", joined.listener)
    await remote_sender_waits(joined, slow, joined.link.route / "slow", 400, 65_536)
    assert joined.there.router.dropped == 0


async def test_a_sender_waits_through_a_secure_channel_and_nothing_is_dropped(joined: Any) -> None:
    channels = joined.there.secure_channel_listener(trust=TrustEveryone())
    joined.there.open(channels.address, joined.listener)
    channel = await joined.here.secure_channel(joined.link.route / channels.address, trust=TrustEveryone())
    slow = Slow()
    joined.there.start_worker("slow", slow.handle)
    joined.there.open("slow", channels)
    await remote_sender_waits(joined, slow, channel.route / "slow", 400, 65_536)
    assert joined.there.router.dropped == 0


async def test_one_link_held_by_a_slow_worker_holds_no_other(joined: Any) -> None:
    slow = Slow()
    joined.there.start_worker("slow", slow.handle)
    joined.there.open("slow", joined.listener)
    context = joined.here.context()

    async def flood() -> None:
        for number in range(2000):
            await context.send(joined.link.route / "slow", number.to_bytes(4, "big") + bytes(20_000))

    sender = asyncio.ensure_future(flood())
    slow.let(1)
    await slow.wait(1)
    other = await joined.here.connect(joined.listener.endpoint)
    assert (await joined.here.ask(other.route / "echo", b"others")).payload == b"others"
    sender.cancel()


async def test_a_link_that_ends_lets_its_waiting_sender_go(joined: Any) -> None:
    slow = Slow()
    joined.there.start_worker("slow", slow.handle)
    joined.there.open("slow", joined.listener)
    context = joined.here.context()

    async def flood() -> None:
        while True:
            await context.send(joined.link.route / "slow", bytes(20_000))

    sender = asyncio.ensure_future(flood())
    slow.let(1)
    await slow.wait(1)
    joined.link.close()
    await asyncio.wait([sender])
    assert "cannot deliver" in str(sender.exception())


async def test_bytes_fill_a_mailbox_as_messages_do(joined: Any) -> None:
    slow = Slow()
    joined.here.start_worker("slow", slow.handle)
    context = joined.here.context()
    most = joined.here.limits.message_bytes
    sent = 0

    async def send() -> None:
        nonlocal sent
        for _ in range(4):
            await context.send("slow", bytes(most // 2))
            sent += 1

    sender = asyncio.ensure_future(send())
    await settle()
    assert sent < 4
    slow.let(4)
    await slow.wait(4)
    await sender


async def test_two_nodes_that_serve_each_other_do_not_stop_each_other(joined: Any) -> None:
    """Each worker waits for the link to take its answers; behind them come the other's questions."""
    await joined.here.ask(joined.link.route / "echo", b"")
    (back,) = joined.listener.links

    async def answer(context: Context, message: Received) -> None:
        await context.reply(message, message.payload)

    async def ask(node: Any, over: Any) -> None:
        context = node.context()
        node.open(context.address, over)

        async def send() -> None:
            for _ in range(400):
                await context.send(over.route / "answers", bytes(40_000))

        sending = asyncio.ensure_future(send())
        for _ in range(400):
            await context.receive(timeout_s=5)
        await sending

    for node, over in ((joined.here, joined.link), (joined.there, back)):
        node.start_worker("answers", answer)
        node.open("answers", over)
    await asyncio.gather(ask(joined.here, joined.link), ask(joined.there, back))


async def test_a_worker_that_asks_over_a_link_is_answered_behind_the_messages_that_wait_for_it(
    joined: Any,
) -> None:
    await joined.here.ask(joined.link.route / "echo", b"")
    (back,) = joined.listener.links
    answers: list[bytes] = []
    done = asyncio.Event()

    async def asks(context: Context, message: Received) -> None:
        answers.append((await context.ask(back.route / "echo", message.payload[:4], timeout_s=5)).payload)
        if len(answers) == 200:
            done.set()

    joined.there.start_worker("asks", asks)
    joined.there.open("asks", joined.listener)
    context = joined.here.context()
    for number in range(200):
        await context.send(joined.link.route / "asks", number.to_bytes(4, "big") + bytes(20_000))
    await done.wait()
    assert answers == [number.to_bytes(4, "big") for number in range(200)]


async def test_messages_of_a_link_that_its_worker_waits_for_have_bounded_room(joined: Any) -> None:
    flow, other = HeldFlow("link"), HeldFlow("other link")
    inner = HeldFlow("channel", under=flow)
    mailbox = Mailbox(dataclasses.replace(joined.here.limits, mailbox_excess_messages=20))
    for _ in range(7):
        assert mailbox.put(Message(Route.of("w"), Route(), b"x", inner)) is None
    held, others = (mailbox.put(Message(Route.of("w"), Route(), b"x", f)) for f in (inner, other))
    assert held is not None
    assert others is not None
    mailbox.need(inner)
    assert not held.is_shut, "the link that is waited for goes on"
    assert others.is_shut
    for _ in range(100):
        assert mailbox.put(Message(Route.of("w"), Route(), b"x", inner)) is None
    assert len(mailbox._queue) == 20
    assert mailbox.put(Message(Route.of("w"), Route(), b"x")) is not None, "who waits himself loses nothing"
    assert len(mailbox._queue) == 21
    mailbox.need(None)
    assert mailbox.put(Message(Route.of("w"), Route(), b"x", inner)) is not None
    for _ in range(22):
        await mailbox.get()
    assert not others.is_shut
    assert not mailbox._gate.is_shut
