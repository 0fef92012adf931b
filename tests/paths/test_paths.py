"""Paths: kept open, tried again with pauses that stay short, and honest about what fails."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise
from typing import Any

import pytest

from ockamlite import paths
from ockamlite.errors import AnswerTimeoutError, UnavailableError, UsageError
from ockamlite.node import Node
from ockamlite.paths import LONGEST_PAUSE_S, Opened, Path
from ockamlite.routing.hops import parse_hops
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


class Part:
    """Stands for a link: open until it is closed."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        if not self.closed.done():
            self.closed.set_result("closed here")


class Clock:
    """The loop's time, moved on by whoever sleeps; the loop itself never waits."""

    def __init__(self, monkeypatch: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()
        monkeypatch.setattr(self.loop, "time", lambda: self.now)
        select = self.loop._selector.select  # type: ignore[attr-defined]

        def passing(timeout: float | None = None) -> Any:
            found = select(0)
            if not found and timeout:
                self.now += timeout
            return found

        monkeypatch.setattr(self.loop._selector, "select", passing)  # type: ignore[attr-defined]


class Tries:
    """Opens as it is told, and notes when it was asked."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.down = True
        self.takes_s = 0.0
        self.part = Part()
        self.asked = asyncio.Event()

    async def __call__(self) -> Opened:
        self.at.append(asyncio.get_running_loop().time())
        self.asked.set()
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        if self.down:
            raise UnavailableError("nobody is there")
        opened = Opened()
        self.part = Part()
        opened.parts.append(self.part)  # type: ignore[arg-type]
        opened.route = Route.of(f"link{len(self.at)}")
        return opened

    @property
    def pauses(self) -> list[float]:
        return [b - a for a, b in pairwise(self.at)]


@pytest.fixture
async def tries() -> Tries:
    return Tries()


@pytest.fixture
async def path(tries: Tries, monkeypatch: Any) -> Any:
    Clock(monkeypatch)
    found = Path(parse_hops("tcp:127.0.0.1:1"), tries)
    task = asyncio.ensure_future(found.run())
    yield found
    task.cancel()
    await asyncio.wait([task])


async def test_pauses_grow_stay_below_the_longest_and_are_jittered(path: Path, tries: Tries) -> None:
    await asyncio.sleep(120)
    assert all(pause <= LONGEST_PAUSE_S + 0.01 for pause in tries.pauses)
    assert tries.pauses[0] <= 0.2 + 0.01
    late = tries.pauses[8:]
    assert len(late) > 20
    assert all(pause >= LONGEST_PAUSE_S / 2 - 0.01 for pause in late)
    assert len({round(pause, 3) for pause in late}) > len(late) // 2


async def test_a_try_that_took_long_was_a_pause_already(path: Path, tries: Tries) -> None:
    tries.takes_s = 10.0
    await asyncio.sleep(200)
    assert all(pause <= 10.3 for pause in tries.pauses)


async def test_somebody_who_waits_cuts_the_pause_short(path: Path, tries: Tries) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(60)
    tries.asked.clear()
    await tries.asked.wait()  # a long pause has just begun
    tries.down = False
    began = loop.time()
    assert await path.wait(9.0) == path.current
    assert loop.time() - began <= 0.6


async def test_while_somebody_waits_a_peer_that_refuses_is_asked_twice_a_second_at_most(
    path: Path, tries: Tries
) -> None:
    await asyncio.sleep(60)
    first = len(tries.at)
    with pytest.raises(UnavailableError, match=r"no way along tcp:127\.0\.0\.1:1: nobody is there"):
        await path.wait(9.0)
    assert 15 <= len(tries.at) - first <= 20


async def test_who_is_in_no_hurry_does_not_cut_pauses_short(path: Path, tries: Tries) -> None:
    waiting = asyncio.ensure_future(path.wait(3600.0, hurry=False))
    await asyncio.sleep(120)
    assert all(pause >= LONGEST_PAUSE_S / 2 - 0.01 for pause in tries.pauses[8:])
    tries.down = False
    assert await waiting == path.current


async def test_what_was_lost_is_opened_again_soon(path: Path, tries: Tries) -> None:
    tries.down = False
    route = await path.wait(9.0)
    await asyncio.sleep(60)
    lost = asyncio.get_running_loop().time()
    tries.part.closed.set_result("the cable was pulled")
    assert path.current is None  # at once, before anybody has run
    again = await path.wait(9.0)
    assert again != route
    assert asyncio.get_running_loop().time() - lost <= 0.6


async def test_what_ends_again_and_again_is_not_opened_in_a_tight_loop(path: Path, tries: Tries) -> None:
    tries.down = False
    for _ in range(12):
        await path.wait(9.0, hurry=False)
        tries.part.closed.set_result("refused after all")
        await asyncio.sleep(0)
    assert max(tries.pauses) >= LONGEST_PAUSE_S / 2 - 0.01


async def test_callbacks_are_told_each_time_and_at_once_if_it_is_open(path: Path, tries: Tries) -> None:
    told: list[Opened] = []
    tries.down = False
    await path.wait(9.0)
    path.on_open(told.append)
    assert len(told) == 1
    tries.part.closed.set_result("lost")
    await path.wait(9.0)
    assert len(told) == 2


async def test_a_callback_that_fails_costs_neither_the_path_nor_the_other_callbacks(
    path: Path, tries: Tries, caplog: Any
) -> None:
    told: list[Opened] = []

    def fail(opened: Opened) -> None:
        raise RuntimeError("no bananas")

    path.on_open(fail)
    path.on_open(told.append)
    tries.down = False
    for number in range(1, 3):
        route = await path.wait(9.0)
        assert (path.current, len(told)) == (route, number)
        tries.part.closed.set_result("lost")
    assert "no bananas" in caplog.text


async def test_a_defect_in_a_transport_is_told_once_and_tried_again(
    path: Path, tries: Tries, monkeypatch: Any, caplog: Any
) -> None:
    async def broken() -> Opened:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(path, "_open_once", broken)
    with pytest.raises(UnavailableError, match="ZeroDivisionError: a defect"):
        await path.wait(20.0)
    assert caplog.text.count("Traceback") == 1
    monkeypatch.setattr(path, "_open_once", tries)
    tries.down = False
    assert await path.wait(9.0) == path.current
    assert path.failure is None


# -- on real links ---------------------------------------------------------------------------------


async def test_a_peer_that_comes_up_is_used_and_the_reason_was_said_before(net: Any) -> None:
    laptop, gateway = await net.node(), await net.node()
    port = free_port()
    path = laptop.path(
        f"tcp:127.0.0.1:{port},secure:secure_channel_listener",
        trust=TrustIdentifiers(gateway.identity.identifier),
    )
    with pytest.raises(UnavailableError, match="connection refused"):
        await path.wait(0.3)
    listener = await gateway.listen(f"tcp:127.0.0.1:{port}")
    gateway.open(gateway.secure_channel_listener(trust=TrustEveryone()).address, listener)
    route = await path.wait(10.0)
    assert (await laptop.ask(route / "echo", b"there")).payload == b"there"
    assert path.failure is None


async def test_a_channel_whose_first_message_found_nobody_is_opened_once_somebody_is_there(net: Any) -> None:
    laptop, gateway = await net.node(), await net.node()
    listener = await gateway.listen("tcp:127.0.0.1:0")
    port = listener.endpoint.host_port.port
    loop = asyncio.get_running_loop()
    path = laptop.path(
        f"tcp:127.0.0.1:{port},secure:secure_channel_listener",
        trust=TrustIdentifiers(gateway.identity.identifier),
    )
    await gateway.event("link-up")
    while not gateway.router.dropped:
        await asyncio.sleep(0.001)
    began = loop.time()
    gateway.open(gateway.secure_channel_listener(trust=TrustEveryone()).address, listener)
    await path.wait(10.0)
    assert loop.time() - began < 4.0


async def test_whom_we_do_not_trust_is_no_way(net: Any) -> None:
    laptop, gateway = await net.node(), await net.node()
    listener = await gateway.listen("tcp:127.0.0.1:0")
    gateway.open(gateway.secure_channel_listener(trust=TrustEveryone()).address, listener)
    path = laptop.path(
        f"tcp:127.0.0.1:{listener.endpoint.host_port.port},secure:secure_channel_listener",
        trust=TrustIdentifiers(laptop.identity.identifier),
    )
    with pytest.raises(UnavailableError, match=str(gateway.identity.identifier)):
        await path.wait(1.5)
    assert path.current is None


async def test_a_secure_hop_needs_somebody_to_trust(net: Any) -> None:
    laptop, gateway = await net.node(), await net.node()
    listener = await gateway.listen("tcp:127.0.0.1:0")
    with pytest.raises(UsageError, match="nobody is trusted"):
        await laptop.open_hops(f"tcp:127.0.0.1:{listener.endpoint.host_port.port},secure:api")


async def test_channels_nest_three_deep_and_end_together(net: Any, until: Any) -> None:
    """Each node forwards to the next; each channel runs inside the one before it."""
    laptop, last = await net.node(), await net.node()
    nodes = [await net.node(), await net.node(), last]
    hops: list[str] = []
    for number, node in enumerate(nodes):
        listener = await node.listen("tcp:127.0.0.1:0")
        channels = node.secure_channel_listener(trust=TrustEveryone())
        node.open(channels.address, listener)
        where = f"tcp:127.0.0.1:{listener.endpoint.host_port.port}"
        if number:
            nodes[number - 1].forward(where)
        hops += (where, "secure:secure_channel_listener")
    path = laptop.path(
        ",".join(hops),
        trust=TrustIdentifiers(last.identity.identifier),
        relay_trust=TrustIdentifiers(*(node.identity.identifier for node in nodes[:2])),
    )
    route = await path.wait(10.0)
    assert [type(part).__name__ for part in path.opened.parts] == ["Link", *["SecureChannel"] * 3]
    assert path.opened.channel.peer == last.identity.identifier
    assert (await laptop.ask(route / "echo", b"from far")).payload == b"from far"
    parts = list(path.opened.parts)
    parts[0].close()
    await until(lambda: all(part.closed.done() for part in parts))
    assert await path.wait(10.0) != route
    assert (await laptop.ask(path.current / "echo", b"again")).payload == b"again"


async def test_a_failure_in_the_middle_closes_what_was_open(net: Any, until: Any, monkeypatch: Any) -> None:
    laptop, gateway = await net.node(), await net.node()
    listener = await gateway.listen("tcp:127.0.0.1:0")
    gateway.open(gateway.secure_channel_listener(trust=TrustEveryone()).address, listener)
    before = len(laptop.router)
    where = f"tcp:127.0.0.1:{listener.endpoint.host_port.port}"
    opening = laptop.secure_channel
    monkeypatch.setattr(
        laptop, "secure_channel", lambda route, *, trust: opening(route, trust=trust, timeout_s=0.3)
    )
    with pytest.raises(AnswerTimeoutError):
        await laptop.open_hops(
            f"{where},secure:secure_channel_listener,secure:not_there", trust=TrustEveryone()
        )
    await until(lambda: len(laptop.router) == before and not listener.links)


def test_what_returns_is_asked_again_within_seconds() -> None:
    assert paths.LONGEST_PAUSE_S <= 5


async def test_what_fails_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    at = f"tcp:127.0.0.1:{free_port()}"
    async with Node() as node:
        path = node.path(at)
        with pytest.raises(UnavailableError) as caught:
            await path.wait(0.3)
    assert str(caught.value) == f"no way along {at}: connection refused"
    assert caplog.messages[0] == f"{at}: connection refused; trying on"
