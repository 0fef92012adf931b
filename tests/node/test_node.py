"""A node from its start to its end: clear errors outside of that, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from typing import TYPE_CHECKING

import pytest

from ockamlite.errors import (
    AlreadyExistsError,
    ClosedError,
    LinkClosedError,
    NotFoundError,
    StateError,
    UnavailableError,
    UsageError,
)
from ockamlite.events import LinkDown, LinkUp
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.events import Event
    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received


async def answers(context: Context, message: Received) -> None:
    await context.reply(message, message.payload)


USES: dict[str, Callable[[Node], object]] = {
    "connect": lambda node: node.connect("tcp:127.0.0.1:1"),
    "listen": lambda node: node.listen("tcp:127.0.0.1:0"),
    "secure_channel": lambda node: node.secure_channel(Route.of("api"), trust=TrustEveryone()),
    "secure_channel_listener": lambda node: node.secure_channel_listener(trust=TrustEveryone()),
    "path": lambda node: node.path("tcp:127.0.0.1:1"),
    "open": lambda node: node.open("echo"),
    "context": lambda node: node.context(),
    "start_worker": lambda node: node.start_worker("w", answers),
    "start_processor": lambda node: node.start_processor(lambda context: context.receive()),  # type: ignore[arg-type, return-value]
    "ask": lambda node: node.ask("echo", b""),
    "uppercase": lambda node: node.uppercase(),
    "outlet": lambda node: node.outlet("tcp:127.0.0.1:1"),
    "inlet": lambda node: node.inlet("tcp:127.0.0.1:0", Route.of("outlet")),
    "relay_service": lambda node: node.relay_service(),
}


async def use(node: Node, name: str) -> None:
    made = USES[name](node)
    if asyncio.iscoroutine(made):
        await made


@pytest.mark.parametrize("name", USES)
async def test_a_node_used_before_its_start_says_so_and_does_nothing(name: str) -> None:
    node = Node()
    with pytest.raises(ClosedError, match="not started") as caught:
        await use(node, name)
    assert "async with Node()" in caught.value.hint
    assert len(node.router) == 0
    assert not node._tasks


@pytest.mark.parametrize("name", USES)
async def test_a_node_used_after_its_end_says_so_and_does_nothing(name: str) -> None:
    async with Node() as node:
        pass
    with pytest.raises(ClosedError, match="the node is closed"):
        await use(node, name)
    assert len(node.router) == 0


async def test_a_node_closed_before_its_start_twice_or_from_two_sides_is_closed() -> None:
    node = Node()
    await node.close()
    async with node:
        await asyncio.gather(node.close(), node.close())
        await node.close()
    await node.close()


async def test_a_node_cannot_be_started_twice_at_a_time() -> None:
    async with Node() as node:
        with pytest.raises(AlreadyExistsError, match="started already"):
            await node.__aenter__()
        assert (await node.ask("echo", b"still here")).payload == b"still here"


async def test_a_closed_node_can_be_started_again() -> None:
    node = Node()
    async with node:
        node.start_worker("w", answers)
    async with node:
        node.start_worker("w", answers)
        await asyncio.sleep(0)
        assert (await node.ask("w", b"second life")).payload == b"second life"


async def test_nothing_is_left_after_close() -> None:
    tasks_before = asyncio.all_tasks()
    async with Node() as there, Node() as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        channels = there.secure_channel_listener("api", trust=TrustEveryone())
        there.open("api", listener)
        there.uppercase()
        there.start_worker("w", answers)
        there.outlet("tcp:127.0.0.1:1")
        there.relay_service(open_to=(listener.flow,))
        there.context()
        link = await here.connect(listener.endpoint)
        channel = await here.secure_channel(link.route / "api", trust=TrustEveryone())
        inlet = await here.inlet("tcp:127.0.0.1:0", channel.route / "outlet")
        here.start_processor(lambda context: context.receive())  # type: ignore[arg-type, return-value]
        await channel.confirmed
        reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
        port = listener.endpoint.host_port.port
        assert channels.channels
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    for node in (here, there):
        assert len(node.router) == 0
        assert not node._tasks
        assert not node._links
        assert not node._contexts
        assert not node._channels._channels
        assert not node._channels._listeners
    assert channel.closed.done()
    assert link.closed.done()
    assert not channels.channels
    assert not listener.links
    # What the channel had to say to its peer is said; no timer of ours is left.
    loop = asyncio.get_running_loop()
    left = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
    assert [repr(timer) for timer in left if "ockamlite" in repr(timer) or "transports" in repr(timer)] == []
    assert asyncio.all_tasks() == tasks_before
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


async def test_closing_ends_whoever_waits_for_an_answer_or_a_channel() -> None:
    async def silent(context: Context, message: Received) -> None:
        pass

    async with Node() as there, Node() as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        there.start_worker("silent", silent)
        there.open("silent", listener)
        link = await here.connect(listener.endpoint)
        asking = asyncio.ensure_future(here.ask(link.route / "silent", b"?"))
        opening = asyncio.ensure_future(
            here.secure_channel(link.route / "silent", trust=TrustEveryone())
        )  # fmt: skip
        while not link.flow.watchers:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await here.close()
        with pytest.raises(LinkClosedError, match="no answer: closed here"):
            await asking
        with pytest.raises((ClosedError, LinkClosedError)):
            await opening
        assert len(here.router) == 0


async def test_an_answer_that_cannot_come_any_more_is_not_waited_for() -> None:
    async def silent(context: Context, message: Received) -> None:
        listener_link = next(iter(listener.links))
        listener_link.close()

    async with Node() as there, Node() as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        there.start_worker("silent", silent)
        there.open("silent", listener)
        link = await here.connect(listener.endpoint)
        before = len(here.router)
        with pytest.raises(LinkClosedError, match="no answer: closed by the peer"):
            await here.ask(link.route / "silent", b"?", timeout_s=60)
        assert len(here.router) < before


async def test_a_worker_may_close_its_node() -> None:
    async with Node() as node:

        async def handle(context: Context, message: Received) -> None:
            await node.close()

        node.start_worker("last", handle)
        await node.context().send("last", b"good night")
        while node._running:
            await asyncio.sleep(0)
    assert len(node.router) == 0


async def test_a_task_that_will_not_end_does_not_keep_the_node_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ockamlite.node._CLOSE_S", 0.01)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with Node() as node:
        node.spawn(stubborn(), "stubborn")
        await asyncio.sleep(0)
    assert node._tasks
    release.set()
    await asyncio.wait(node._tasks)


async def test_a_cancelled_close_leaves_no_address() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)

    node = Node()
    await node.__aenter__()
    node.start_worker("w", answers)
    node.spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(node.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert len(node.router) == 0
    await node.close()


async def test_what_a_task_raises_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise LookupError("no such thing")

    async with Node() as node:
        node.spawn(fails(), "the search")
        while node._tasks:
            await asyncio.sleep(0)
    assert "the search failed: no such thing" in caplog.text


async def test_a_receiver_of_events_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def on_event(event: Event) -> None:
        raise ValueError("cannot print")

    async with Node() as there, Node(on_event=on_event) as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        link = await here.connect(listener.endpoint)
        assert (await here.ask(link.route / "echo", b"x")).payload == b"x"
        link.close()
        await link.closed
        assert link.address not in here.router
    assert "the receiver of events failed on link-up" in caplog.text
    assert "the receiver of events failed on link-down" in caplog.text


async def test_links_that_come_and_go_are_told(caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []
    async with Node() as there, Node(on_event=events.append) as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        link = await here.connect(str(listener.endpoint))
        link.close()
        await link.closed
        where = str(listener.endpoint)
        assert events == [
            LinkUp(where, where.removeprefix("tcp:")),
            LinkDown(where, where.removeprefix("tcp:"), "closed here"),
        ]


async def test_a_kind_of_link_that_nobody_makes_names_those_that_somebody_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group, name="tcp": [])
    async with Node() as node:
        with pytest.raises(UsageError, match="no transport for 'mqtt' is installed"):
            await node.connect("mqtt:home")
        with pytest.raises(UsageError, match="unknown kind 'pigeon'"):
            await node.listen("pigeon:home")


async def test_opening_what_nobody_has_is_an_error() -> None:
    async with Node() as node:
        with pytest.raises(NotFoundError, match="no worker at nothing"):
            node.open("nothing")


async def test_a_node_closed_while_it_dials_keeps_no_link() -> None:
    async with Node() as there:
        listener = await there.listen("tcp:127.0.0.1:0")
        async with Node() as here:
            dialling = asyncio.ensure_future(here.connect(listener.endpoint))
            await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            await dialling
        assert len(here.router) == 0
        assert not here._links


# -- listeners -------------------------------------------------------------------------------------


async def test_a_closed_listener_frees_its_port_and_ends_its_links() -> None:
    async with Node() as there, Node() as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        link = await here.connect(listener.endpoint)
        await here.ask(link.route / "echo", b"")
        await listener.close()
        await link.closed
        with pytest.raises(UnavailableError):
            await here.connect(listener.endpoint)
        assert not there._links
        again = await there.listen(listener.endpoint)
        link = await here.connect(again.endpoint)
        await here.ask(link.route / "echo", b"")
        assert there._listeners == [again]


async def test_a_full_listener_gives_the_place_of_an_unused_link_to_a_new_one() -> None:
    limits = dataclasses.replace(LIMITS, links_per_listener=2, link_unused_s=0.0)
    async with Node(limits=limits) as there, Node() as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        there.secure_channel_listener("api", trust=TrustEveryone())
        there.open("api", listener)
        used = await here.connect(listener.endpoint)
        channel = await here.secure_channel(used.route / "api", trust=TrustEveryone())
        unused = await here.connect(listener.endpoint)
        await here.ask(unused.route / "echo", b"")
        third = await here.connect(listener.endpoint)
        await here.secure_channel(third.route / "api", trust=TrustEveryone())
        await unused.closed
        refused = await here.connect(listener.endpoint)
        await refused.closed
        assert (await here.ask(channel.route / "echo", b"x")).payload == b"x"
        assert len(listener.links) == 2
        third.close()
        await third.closed
        while len(listener.links) == 2:
            await asyncio.sleep(0)
        fourth = await here.connect(listener.endpoint)
        assert (await here.ask(fourth.route / "echo", b"x")).payload == b"x"


async def test_a_node_does_not_start_with_a_clock_that_cannot_be_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    with pytest.raises(StateError, match="clock stands at 1970-01-12"):
        await node.__aenter__()
    monkeypatch.undo()
    async with node:
        assert (await node.ask("echo", b"x")).payload == b"x"
