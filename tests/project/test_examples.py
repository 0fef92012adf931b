"""Each example does what its first sentence says, run as printed, in a process of its own."""

from __future__ import annotations

import ast
import asyncio
import io
import random
import signal
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite import AnswerTimeoutError, Node
from ockamlite.portals.protocol import PING

if TYPE_CHECKING:
    from collections.abc import Callable

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
}


async def assert_echoes(port: int) -> None:
    """What is sent to the port comes back: the service behind the portal is the one that echoes."""
    data = random.Random(port).randbytes(300_000)
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
