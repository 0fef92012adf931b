"""Each example does what its first sentence says, run as printed, in a process of its own."""

from __future__ import annotations

import ast
import asyncio
import io
import random
import re
import signal
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import Air
from boards.emulation.air_server import AirServer
from boards.emulation.line import PtyLine
from ockamlite import AnswerTimeoutError, Node
from ockamlite.portals.protocol import PING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

EXAMPLES = {path.stem: path for path in (Path(__file__).parents[2] / "examples").glob("*.py")}

DEFAULTS = {
    "01_inlet_outlet": ["127.0.0.1:4001", "127.0.0.1:5000"],
    "02_outlet": ["127.0.0.1:5000", "4000"],
    "02_inlet": ["127.0.0.1:4001", "4000"],
    "03_outlet": ["127.0.0.1:5000", "4000"],
    "03_inlet": ["127.0.0.1:4001", "4000"],
    "relay": ["4000"],
    "04_outlet": ["127.0.0.1:5000", "127.0.0.1:4000"],
    "04_inlet": ["127.0.0.1:4000"],
    "bob": ["127.0.0.1:4000"],
    "alice": ["127.0.0.1:4000"],
    "hello": [],
    "three_hops": [],
    "udp": ["udp:127.0.0.1:0"],
    "serial_line": ["serial:/dev/ttyUSB0", "serial:/dev/ttyUSB1"],
    "ble": ["ble:bob", "ble:bob"],
    "ble_then_tcp": ["ble:gateway", "ble:gateway"],
    "two_ble_hops": ["ble:repeater", "ble:bob"],
    "mixed_portal": ["127.0.0.1:4001", "127.0.0.1:5000", "serial:/dev/ttyUSB0", "serial:/dev/ttyUSB1"],
    "board": ["/"],
}


async def assert_echoes(port: int, count_bytes: int = 300_000) -> None:
    """What is sent to the port comes back: the service behind the portal is the one that echoes."""
    data = random.Random(port).randbytes(count_bytes)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.write_eof()
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


def lines_of_code(path: Path) -> int:
    """Lines that are neither blank nor comment only."""
    idle = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type not in idle:
            used.update(range(token.start[0], token.end[0] + 1))
    return len(used)


async def test_hello_is_answered_by_a_worker_that_knows_who_asked(start: Any) -> None:
    hello = await start("hello")
    assert (await hello.line()).startswith("Bob listens at tcp:127.0.0.1:")
    assert (await hello.line()).startswith("Alice received: Hello Alice! Your channel proves that you are I")
    assert await hello.rest() == ""


async def test_01_joins_an_inlet_and_an_outlet_of_one_node(
    start: Any, echo_server: str, free_port: Callable[[], int]
) -> None:
    port = free_port()
    portal = await start("01_inlet_outlet", f"127.0.0.1:{port}", echo_server)
    assert await portal.line() == f"inlet tcp:127.0.0.1:{port} -> outlet -> tcp:{echo_server}"
    await assert_echoes(port)
    await portal.interrupt()


@pytest.mark.parametrize(
    ("number", "way", "hops"),
    [("02", "", ""), ("03", "secure channel -> ", "secure:secure_channel_listener,")],
)
async def test_02_and_03_join_two_nodes_over_tcp(
    number: str, way: str, hops: str, start: Any, echo_server: str, free_port: Callable[[], int]
) -> None:
    port, link = free_port(), free_port()
    outlet = await start(f"{number}_outlet", echo_server, str(link))
    assert await outlet.line() == f"tcp:127.0.0.1:{link} -> {way}outlet -> tcp:{echo_server}"
    inlet = await start(f"{number}_inlet", f"127.0.0.1:{port}", str(link))
    assert await inlet.line() == f"inlet tcp:127.0.0.1:{port} -> tcp:127.0.0.1:{link},{hops}outlet"
    await assert_echoes(port)
    await inlet.interrupt()
    await outlet.interrupt()


async def test_03_is_not_reached_without_a_secure_channel(
    start: Any, echo_server: str, free_port: Callable[[], int]
) -> None:
    port = free_port()
    await (await start("03_outlet", echo_server, str(port))).line()
    async with Node() as stranger:
        link = await stranger.connect(f"tcp:127.0.0.1:{port}")
        with pytest.raises(AnswerTimeoutError):
            await stranger.ask(link.route / "outlet", PING, timeout_s=1)
        assert (await stranger.ask(link.route / "echo", PING)).payload == PING


async def test_04_joins_two_nodes_that_both_listen_nowhere(
    start: Any, echo_server: str, free_port: Callable[[], int]
) -> None:
    port, at = free_port(), free_port()
    relay = await start("relay", str(at))
    assert await relay.line() == f"relay tcp:127.0.0.1:{at}"
    outlet = await start("04_outlet", echo_server, f"127.0.0.1:{at}")
    address = await outlet.line()
    assert address.startswith("forward_to_")
    inlet = await start("04_inlet", f"127.0.0.1:{port}", address, f"127.0.0.1:{at}")
    assert (await inlet.line()).startswith(f"inlet tcp:127.0.0.1:{port} -> tcp:127.0.0.1:{at},{address},")
    await assert_echoes(port)
    for program in (inlet, outlet, relay):
        await program.interrupt()


async def test_04_says_what_it_needs(start: Any) -> None:
    inlet = await start("04_inlet")
    assert (await inlet.complaints()).startswith("usage: 04_inlet.py HOST:PORT FORWARDING_ADDRESS")


async def test_bob_echoes_what_alice_types(start: Any, free_port: Callable[[], int]) -> None:
    at = f"127.0.0.1:{free_port()}"
    relay = await start("relay", at.rpartition(":")[2])
    await relay.line()
    bob = await start("bob", at)
    assert await bob.line() == "Forwarding address for Bob is:"
    address = await bob.line()
    alice = await start("alice", at)
    assert await alice.line() == "Enter the forwarding address for Bob:"
    alice.type(address)
    assert (await alice.line()).endswith("Type a message for Bob's echoer:")
    for message in ("Hello Bob", "", "grüße, ☃"):
        alice.type(message)
        assert await bob.line() == f"Address: 0#echoer, Received: {message}"
        assert await alice.line() == f"Alice received an echo: {message}"
    alice.end_input()
    assert await alice.rest() == ""
    await bob.interrupt()
    await relay.interrupt()


async def test_ctrl_c_ends_alice_while_she_waits_for_a_line(start: Any) -> None:
    alice = await start("alice")
    await alice.line()
    assert await alice.killed_by(signal.SIGINT)


def test_bob_and_alice_have_51_lines_together() -> None:
    assert lines_of_code(EXAMPLES["bob"]) + lines_of_code(EXAMPLES["alice"]) <= 51


async def test_three_hops_prints_what_came_back(start: Any) -> None:
    printed = await (await start("three_hops")).rest()
    route, _, reply = printed.strip().partition(" -> ")
    assert route.count("tcp:127.0.0.1:") == 3
    assert route.endswith(",secure:bob,uppercase")
    assert reply == "THROUGH THREE HOPS"


@pytest.fixture
async def hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """An emulated line and an emulated air, instead of two adapters and radios; the ends of the line."""
    air = str(tmp_path / "air")
    monkeypatch.setenv("OCKAMLITE_AIR", air)
    async with AirServer(Air(), air), PtyLine((tmp_path / "a", tmp_path / "b"), baud=921_600) as line:
        yield [f"serial:{device}" for device in line.devices]


@pytest.mark.parametrize(
    ("name", "way", "reply"),
    [
        ("udp", "udp:127.0.0.1:PORT,secure:bob,uppercase", "OVER DATAGRAMS"),
        ("ble", "ble:bob,secure:bob,uppercase", "THROUGH THE AIR"),
        (
            "ble_then_tcp",
            "ble:gateway,tcp:127.0.0.1:PORT,secure:server,uppercase",
            "OVER BLUETOOTH, THEN TCP",
        ),
        ("two_ble_hops", "ble:repeater,ble:bob,secure:bob,uppercase", "FROM ONE TO THE NEXT"),
    ],
)
async def test_a_channel_over_other_links_brings_an_answer(
    name: str, way: str, reply: str, start: Any, hardware: list[str]
) -> None:
    printed = await (await start(name)).rest()
    assert re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", printed) == f"{way} -> {reply}\n"


async def test_serial_line_brings_an_answer(start: Any, hardware: list[str]) -> None:
    printed = await (await start("serial_line", *hardware)).rest()
    assert printed == f"{hardware[1]},secure:bob,uppercase -> OVER A SERIAL LINE\n"


async def test_mixed_portal_goes_over_four_kinds_of_links(
    start: Any, hardware: list[str], echo_server: str, free_port: Callable[[], int]
) -> None:
    port = free_port()
    portal = await start("mixed_portal", f"127.0.0.1:{port}", echo_server, *hardware)
    line = await portal.line()
    kinds = [hop.partition(":")[0] for hop in line.partition(" -> ")[2].split(",")]
    assert kinds == ["ble", "serial", "udp", "tcp", "secure", "outlet"]
    await assert_echoes(port, 20_000)
    await portal.interrupt()


async def test_board_says_what_a_machine_is_and_what_can_be_used(start: Any, tmp_path: Path) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"raspberrypi,4-model-b\0brcm,bcm2711\0")
    (tree / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    printed = await (await start("board", str(tmp_path))).rest()
    assert printed.startswith("raspberry-pi-4b: Raspberry Pi 4 Model B Rev 1.4\n")
    assert "in the way: " in printed


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_short_says_what_it_shows_and_keeps_the_defaults(name: str) -> None:
    source = EXAMPLES[name].read_text()
    assert len(source.splitlines()) < 40
    tree = ast.parse(source)
    sentence = ast.get_docstring(tree)
    assert sentence is not None
    assert sentence.endswith(".")
    assert "\n" not in sentence
    main = next(n for n in tree.body if isinstance(n, ast.AsyncFunctionDef) and n.name == "main")
    assert [ast.literal_eval(default) for default in main.args.defaults] == DEFAULTS[name]
