"""A slow worker slows whoever sends to it, near or far; nothing is dropped and nothing grows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ockamlite.secure_channels.trust import TrustEveryone

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
