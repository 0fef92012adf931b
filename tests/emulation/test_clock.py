"""Virtual time: it jumps, it is the same each time, and what takes real time is refused by name."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.clock import RealTimeError, StuckError, run
from boards.emulation.line import MemoryLine, PtyLine
from ockamlite import Node, TrustEveryone
from ockamlite.limits import LIMITS
from transports.memory import MemoryNetwork, MemoryTransport
from transports.serial import SerialTransport
from transports.tcp import TcpTransport
from transports.udp import UdpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ockamlite.wire.link import Transport


def test_a_day_of_sleep_takes_no_time() -> None:
    async def day() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(day()) == pytest.approx(86_400)
    assert time.monotonic() - began < 0.5


def test_an_hour_of_keepalives_takes_less_than_a_second() -> None:
    """A secure channel over a serial line, both of which look after each other while nothing is sent."""

    async def hour() -> int:
        line = MemoryLine()
        carriers = [SerialTransport(LIMITS, open_port=line.open_port) for _ in range(2)]
        async with Node(transports=carriers[:1]) as here, Node(transports=carriers[1:]) as there:
            listener = await there.listen("serial:b")
            channels = there.secure_channel_listener(trust=TrustEveryone())
            there.open(channels.address, listener)
            link = await here.connect("serial:a")
            channel = await here.secure_channel(link.route / "secure_channel_listener", trust=TrustEveryone())
            before = line.crossed_bytes[0]
            await asyncio.sleep(3600)
            assert not channel.closed.done()
            assert not link.closed.done()
            return line.crossed_bytes[0] - before

    began = time.monotonic()
    crossed = run(hour())
    assert time.monotonic() - began < 1.0
    assert crossed > 3600 / 30 * 10


def test_timers_of_the_same_time_go_off_in_the_order_they_were_set() -> None:
    async def order() -> list[int]:
        loop = asyncio.get_running_loop()
        went: list[int] = []
        for number in range(200):
            loop.call_at(5.0 if number % 3 else 4.0, went.append, number)
        await asyncio.sleep(6)
        return went

    assert run(order()) == [n for n in range(200) if not n % 3] + [n for n in range(200) if n % 3]


def test_a_cancelled_timer_does_not_go_off() -> None:
    async def cancelled() -> list[str]:
        loop = asyncio.get_running_loop()
        went: list[str] = []
        loop.call_later(1, went.append, "first")
        loop.call_later(1, went.append, "second").cancel()
        await asyncio.sleep(2)
        return went

    assert run(cancelled()) == ["first"]


def test_a_time_out_is_one_of_virtual_time() -> None:
    async def late() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await asyncio.sleep(1001)
        return asyncio.get_running_loop().time()

    assert run(late()) == pytest.approx(1000)


def test_everybody_waiting_for_ever_is_an_error_that_names_the_tasks() -> None:
    async def stuck() -> None:
        asyncio.current_task().set_name("the one who waits")  # type: ignore[union-attr]
        await asyncio.get_running_loop().create_future()

    with pytest.raises(StuckError, match="the one who waits"):
        run(stuck())


def test_what_is_left_is_cancelled_in_virtual_time() -> None:
    ended: list[float] = []

    async def lingers() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(10)
            ended.append(asyncio.get_running_loop().time())

    async def main() -> None:
        task = asyncio.create_task(lingers())
        await asyncio.sleep(1)
        assert not task.done()

    run(main())
    assert ended == [pytest.approx(11)]


def real(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    """Things that take real time."""
    return {
        "TCP connection": lambda: asyncio.open_connection("127.0.0.1", 9),
        "TCP server": lambda: asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=object()),
        "Unix socket": lambda: asyncio.open_unix_connection("/nowhere"),
        "UDP socket": lambda: loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        ),
        "name look-up": lambda: loop.getaddrinfo("localhost", 1),
        "other process": lambda: asyncio.create_subprocess_exec("true"),
        "thread": lambda: asyncio.to_thread(time.sleep, 0),
    }


@pytest.mark.parametrize(
    "what",
    ["TCP connection", "TCP server", "Unix socket", "UDP socket", "name look-up", "other process", "thread"],
)
def test_what_takes_real_time_is_refused_by_name(what: str) -> None:
    async def ask() -> None:
        await real(asyncio.get_running_loop())[what]()

    with pytest.raises(RealTimeError, match=f"no {what} under the virtual clock") as refused:
        run(ask())
    assert "memory" in refused.value.hint


def test_a_socket_of_ones_own_is_refused() -> None:
    async def ask(sock: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(sock, lambda: None)

    with socket.socket() as sock, pytest.raises(RealTimeError, match="no socket or terminal"):
        run(ask(sock))


def test_a_line_of_real_terminals_is_refused() -> None:
    async def ask() -> None:
        line = PtyLine()
        try:
            await line.__aenter__()
        finally:
            for end in line._ends:
                if end is not None:
                    end.close()

    with pytest.raises(RealTimeError, match="terminal"):
        run(ask())


@pytest.mark.parametrize("transport", [TcpTransport(LIMITS), UdpTransport(LIMITS)], ids=["tcp", "udp"])
def test_a_node_is_told_why_it_cannot_dial(transport: Transport) -> None:
    async def ask() -> None:
        async with Node(transports=[transport]) as node:
            await node.connect(f"{transport.kind}:127.0.0.1:9")

    with pytest.raises(RealTimeError):
        run(ask())


def test_a_path_says_why_it_does_not_open() -> None:
    async def ask() -> None:
        async with Node() as node:
            path = node.path("tcp:127.0.0.1:9", trust=TrustEveryone())
            with pytest.raises(Exception, match="under the virtual clock"):
                await path.wait(10)

    run(ask())


def test_two_runs_do_the_same_at_the_same_times() -> None:
    async def talk() -> list[tuple[float, int]]:
        network = MemoryNetwork()
        seen: list[tuple[float, int]] = []
        loop = asyncio.get_running_loop()
        async with (
            Node(transports=[MemoryTransport(LIMITS, network)]) as here,
            Node(transports=[MemoryTransport(LIMITS, network)]) as there,
        ):
            await there.listen("memory:there")
            link = await here.connect("memory:there")

            async def ask(number: int) -> None:
                await asyncio.sleep(number % 3)
                await here.ask(link.route / "echo", b"%d" % number)
                seen.append((loop.time(), number))

            async with asyncio.TaskGroup() as all_at_once:
                for number in range(30):
                    all_at_once.create_task(ask(number))
        return seen

    assert run(talk()) == run(talk())
