"""Workers: one message at a time, in order; what they say; how they begin, fail and end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ockamlite.bare import U16  # noqa: TC001  (the codec of a dataclass looks it up)
from ockamlite.errors import (
    AlreadyExistsError,
    AnswerTimeoutError,
    ClosedError,
    DecodeError,
    NotFoundError,
    UsageError,
)
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone
from ockamlite.workers.access import AllowAll, AllowAuthenticated, AllowPeers
from ockamlite.workers.worker import Worker

if TYPE_CHECKING:
    from ockamlite.node import Node
    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received


class Keeps(Worker):
    """Keeps what it is given."""

    def __init__(self, wanted: int) -> None:
        self.got: list[bytes] = []
        self.events: list[str] = []
        self.done = asyncio.Event()
        self._wanted = wanted

    async def started(self, context: Context) -> None:
        self.events.append("started")

    async def handle(self, context: Context, message: Received) -> None:
        self.got.append(message.payload)
        if len(self.got) == self._wanted:
            self.done.set()

    async def stopped(self, context: Context) -> None:
        self.events.append("stopped")


async def answers(context: Context, message: Received) -> None:
    await context.reply(message, message.payload)


async def test_messages_are_handled_in_order_and_never_two_at_a_time(node: Node) -> None:
    busy = 0
    handled: list[int] = []
    done = asyncio.Event()

    async def handle(context: Context, message: Received) -> None:
        nonlocal busy
        busy += 1
        assert busy == 1
        for _ in range(message.payload[0] % 4):
            await asyncio.sleep(0)
        handled.append(message.payload[0])
        busy -= 1
        if len(handled) == 200:
            done.set()

    node.start_worker("counter", handle)
    context = node.context()
    for number in range(200):
        await context.send("counter", bytes([number]))
    await done.wait()
    assert handled == list(range(200))


async def test_a_worker_is_told_of_its_start_and_its_end(node: Node) -> None:
    worker = Keeps(1)
    address = node.start_worker(None, worker)
    await node.context().send(Route((address,)), b"one")
    await worker.done.wait()
    await node.stop_worker(address)
    assert worker.events == ["started", "stopped"]
    assert address not in node.router


async def test_a_worker_that_raises_goes_on_with_the_next_message(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(context: Context, message: Received) -> None:
        if message.payload == b"bad":
            raise ValueError("cannot be handled")
        message.body(Reading) if message.payload == b"short" else None
        await context.reply(message, b"good")

    node.start_worker("moody", handle)
    context = node.context()
    await context.send("moody", b"bad")
    await context.send("moody", b"short")
    assert (await node.ask("moody", b"fine")).payload == b"good"
    assert "worker moody failed on a message" in caplog.text


async def test_a_thousand_messages_that_a_worker_fails_on_are_ten_tracebacks(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(context: Context, message: Received) -> None:
        if message.payload == b"bad":
            raise ValueError("cannot be handled")
        await context.reply(message, message.body(str))

    node.start_worker("moody", handle)
    context = node.context()
    for _ in range(1000):
        await context.send("moody", b"bad")
    await context.send("moody", b"\xff")  # another kind of failure is told of at once
    assert (await node.ask("moody", "fine")).text == "fine"
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 10 + ["WARNING"]
    assert caplog.records[9].getMessage() == "worker moody failed on a message (512 so far)"


async def test_a_worker_that_cannot_start_gives_its_address_back(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Worker):
        async def started(self, context: Context) -> None:
            raise RuntimeError("no such device")

    address = node.start_worker("broken", Broken())
    context = node.context()
    while address in node.router:
        await asyncio.sleep(0)
    with pytest.raises(NotFoundError, match="broken"):
        await context.send("broken", b"anybody there?")
    assert "no such device" in caplog.text


async def test_a_name_is_given_once_and_again_after_its_worker_stopped(node: Node) -> None:
    node.start_worker("name", answers)
    with pytest.raises(AlreadyExistsError, match="name is taken"):
        node.start_worker("name", answers)
    with pytest.raises(AlreadyExistsError):
        node.context("name")
    await node.stop_worker("name")
    node.start_worker("name", answers)
    await asyncio.sleep(0)
    assert (await node.ask("name", b"again")).payload == b"again"
    await node.stop_worker("nobody")


async def test_unnamed_workers_get_addresses_of_their_own(node: Node) -> None:
    first, second = node.start_worker(None, answers), node.start_worker(None, answers)
    assert first != second
    assert (await node.ask(Route((second,)), b"x")).payload == b"x"


async def test_only_an_async_function_or_a_worker_can_be_started(node: Node) -> None:
    with pytest.raises(TypeError, match="neither a Worker nor an async function"):
        node.start_worker("no", lambda context, message: None)  # type: ignore[arg-type, return-value]
    assert len(node.router) == 1


async def test_stopping_a_worker_cancels_what_it_waits_for(node: Node) -> None:
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def handle(context: Context, message: Received) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    node.start_worker("stuck", handle)
    await node.context().send("stuck", b"")
    await begun.wait()
    await node.stop_worker("stuck")
    assert cancelled.is_set()


async def test_a_worker_may_stop_itself(node: Node) -> None:
    async def handle(context: Context, message: Received) -> None:
        await node.stop_worker(context.address)

    address = node.start_worker("once", handle)
    await node.context().send("once", b"")
    while node._tasks:
        await asyncio.sleep(0)
    assert address not in node.router


async def test_what_waits_for_a_stopped_worker_goes_on(node: Node) -> None:
    async def never(context: Context, message: Received) -> None:
        await asyncio.Event().wait()

    node.start_worker("full", never)
    context = node.context()

    async def flood() -> None:
        while True:
            await context.send("full", b"more")

    sender = asyncio.ensure_future(flood())
    await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not sender.done()
    await node.stop_worker("full")
    with pytest.raises(NotFoundError):
        await sender


async def test_a_stopped_worker_leaves_nothing_in_memory(node: Node) -> None:
    worker = Keeps(1)
    watched = weakref.ref(worker)
    node.start_worker("short", worker)
    await node.stop_worker("short")
    del worker
    gc.collect()
    assert watched() is None
    assert not node._tasks
    assert not node._contexts


# -- contexts and processors -----------------------------------------------------------------------


async def test_receiving_ends_after_its_time_with_the_time_in_the_error(node: Node) -> None:
    context = node.context()
    with pytest.raises(AnswerTimeoutError, match=r"no message within 0\.01 s"):
        await context.receive(timeout_s=0.01)
    await node.ask("echo", b"the context still works")
    await node.context().send(Route((context.address,)), b"late")
    assert (await context.receive(timeout_s=5)).payload == b"late"


async def test_a_cancelled_receiver_loses_no_message(node: Node) -> None:
    context = node.context()
    receiver = asyncio.ensure_future(context.receive())
    await asyncio.sleep(0)
    await node.context().send(Route((context.address,)), b"kept")
    receiver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiver
    assert (await context.receive(timeout_s=5)).payload == b"kept"


async def test_two_tasks_on_one_mailbox_are_told_so(node: Node) -> None:
    context = node.context()
    first = asyncio.ensure_future(context.receive())
    await asyncio.sleep(0)
    with pytest.raises(UsageError, match="two tasks receive from one mailbox"):
        await context.receive()
    await node.context().send(Route((context.address,)), b"for the first")
    assert (await first).payload == b"for the first"


async def test_an_answer_reaches_exactly_its_question(node: Node) -> None:
    held: list[Received] = []

    async def reversed_order(context: Context, message: Received) -> None:
        held.append(message)
        if len(held) == 3:
            for one in reversed(held):
                await context.reply(one, one.payload)

    node.start_worker("reverser", reversed_order)
    context = node.context()
    answers_ = await asyncio.gather(*(context.ask("reverser", bytes([n])) for n in range(3)))
    assert [answer.payload for answer in answers_] == [b"\0", b"\1", b"\2"]


async def test_an_unanswered_question_says_what_may_be_wrong_and_leaves_no_address(node: Node) -> None:
    async def silent(context: Context, message: Received) -> None:
        pass

    node.start_worker("silent", silent)
    before = len(node.router)
    with pytest.raises(AnswerTimeoutError, match="no answer within") as caught:
        await node.ask("silent", b"?", timeout_s=0.01)
    assert "may not trust us" in caught.value.hint
    assert len(node.router) == before


async def test_asking_where_nobody_is_fails_at_once_and_leaves_no_address(node: Node) -> None:
    before = len(node.router)
    with pytest.raises(NotFoundError, match="nobody"):
        await node.ask("nobody", b"?")
    with pytest.raises(NotFoundError):
        await node.ask(Route(), b"?")
    assert len(node.router) == before


async def test_a_processor_runs_with_a_context_until_it_returns(node: Node) -> None:
    async def process(context: Context) -> None:
        asked = await context.receive()
        await context.reply(asked, b"processed")

    task = node.start_processor(process, name="processor")
    assert (await node.ask("processor", b"")).payload == b"processed"
    await task
    await asyncio.sleep(0)
    with pytest.raises(NotFoundError):
        await node.ask("processor", b"")


async def test_a_processor_that_fails_is_logged_and_gone(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async def process(context: Context) -> None:
        raise LookupError("out of paper")

    task = node.start_processor(process, name="printer")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert "processor printer failed: out of paper" in caplog.text
    assert not node._contexts


# -- bodies ----------------------------------------------------------------------------------------


@dataclass
class Reading:
    """A body of the kind users write."""

    sensor: str
    celsius: float
    history: list[U16]


async def test_text_bytes_and_dataclasses_travel_as_their_kind(node: Node) -> None:
    node.start_worker("same", answers)
    assert (await node.ask("same", "grüße")).text == "grüße"
    assert (await node.ask("same", "grüße")).payload == b"\x07" + "grüße".encode()
    assert (await node.ask("same", b"\x00raw")).payload == b"\x00raw"
    assert (await node.ask("same", memoryview(b"view"))).payload == b"view"
    reading = Reading("cellar", 11.5, [1, 2, 300])
    assert (await node.ask("same", reading)).body(Reading) == reading


async def test_a_body_of_another_kind_is_a_decode_error(node: Node) -> None:
    node.start_worker("same", answers)
    received = await node.ask("same", b"\xff\xff\xff")
    with pytest.raises(DecodeError):
        _ = received.text
    with pytest.raises(DecodeError):
        received.body(Reading)


async def test_a_body_larger_than_a_message_is_refused_where_it_is_sent(node: Node) -> None:
    body = bytes(node.limits.message_bytes)
    with pytest.raises(UsageError, match="too long for a message"):
        await node.ask("echo", body)
    with pytest.raises(UsageError, match="too long for a message"):
        await node.context().send("echo", body)


# -- access ----------------------------------------------------------------------------------------


async def test_access_control_asks_who_is_at_the_other_end_of_the_channel() -> None:
    from ockamlite.node import Node

    async with Node() as bob, Node() as alice, Node() as mallory:
        bob.start_worker("all", answers, allowed=AllowAll())
        bob.start_worker("known", answers, allowed=AllowAuthenticated())
        bob.start_worker(
            "alices", answers, allowed=AllowPeers(lambda peer: peer == alice.identity.identifier)
        )
        channels = bob.secure_channel_listener(trust=TrustEveryone())
        links = await bob.listen("tcp:127.0.0.1:0")
        bob.open(channels.address, links)
        for name in ("all", "known", "alices"):
            bob.open(name, links, channels)

        async def reached(node: Node, secure: bool) -> list[str]:
            link = await node.connect(links.endpoint)
            route = link.route
            if secure:
                channel = await node.secure_channel(
                    link.route / channels.address, trust=lambda who: who == bob.identity.identifier
                )
                route = channel.route
            # Answers come in order, so what did not come before the last was refused.
            context = node.context()
            node.open(context.address, channel if secure else link)
            for name in ("known", "alices", "all"):
                await context.send(route / name, name)
            found: list[str] = []
            while "all" not in found:
                found.append((await context.receive(timeout_s=5)).text)
            return found

        assert await reached(alice, secure=True) == ["known", "alices", "all"]
        assert await reached(mallory, secure=True) == ["known", "all"]
        assert await reached(alice, secure=False) == ["all"]


async def test_a_worker_of_a_closed_node_receives_nothing_more(node: Node) -> None:
    context = node.context()
    await node.close()
    with pytest.raises(ClosedError):
        await context.receive()
