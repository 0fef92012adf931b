"""Traces: every message per hop, the same bytes for the same seed, as JSON lines, text and SVG."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from boards.trace import Trace
from boards.trace_step import Contents
from ockamlite import Address, Node, Route, TrustEveryone
from ockamlite.routing.codec import encode_message_head

if TYPE_CHECKING:
    from boards.network import Network

ROOT = Path(__file__).parents[2]
SECRET = b"the boiler is at 61 degrees"


async def mixed(network: Network) -> None:
    """A laptop asks a device in clear to the gateway, and sealed through it, over lossy links."""
    laptop, gateway, device = [await network.node(name) for name in ("laptop", "gateway", "device")]
    near = await network.ble(laptop, gateway, loss=0.05)
    far = await network.ble(gateway, device, mtu=50, loss=0.05)
    line = await network.serial(gateway, device, noise=2e-4)
    gateway.forward("ble")
    channels = device.secure_channel_listener(trust=TrustEveryone())
    device.open(channels.address, far.listener, line.listener)
    route = f"{near.endpoint},{far.endpoint},secure:{channels.address.name}"
    async with asyncio.timeout(60):
        opened = await laptop.open_hops(route, trust=TrustEveryone())
        for _ in range(3):
            assert (await laptop.ask(opened.route / "echo", SECRET, timeout_s=60)).payload == SECRET
        link = await laptop.connect(near.endpoint)
        await laptop.ask(link.route / "echo", b"in clear")
        path = gateway.path(f"{line.endpoint},secure:{channels.address.name}", trust=TrustEveryone())
        await gateway.ask(await path.wait(30) / "echo", SECRET, timeout_s=60)
    line.cut()
    await asyncio.sleep(30)


def test_what_is_sealed_is_told_from_what_is_readable(played: Any) -> None:
    trace: Trace = played(mixed).trace
    assert trace.links_that_saw(b"in clear") == {"ble:laptop-gateway"}
    assert not trace.links_that_saw(SECRET)
    readable = [step for step in trace.on() if step.readable]
    assert all(b"in clear" in step.data for step in readable)
    assert len(readable) == 2
    kinds = [step.contents for step in trace.on("ble:gateway-device")]
    assert kinds[:3] == [Contents.HANDSHAKE] * 3
    assert set(kinds[6:]) == {Contents.SEALED}


def test_every_message_is_there_on_every_hop_with_its_size_and_addresses(played: Any) -> None:
    trace: Trace = played(mixed).trace
    first = trace.on("ble:laptop-gateway")[0]
    assert first.onward == ("4#device", "secure_channel_listener")
    assert first.back == ("~1",)
    assert first.size == len(first.data)
    assert trace.on("ble:gateway-device")[0].onward == ("secure_channel_listener",)
    assert len(trace.on("ble:gateway-device", target="device")) <= len(
        trace.on("ble:laptop-gateway", target="gateway")
    )
    for step in trace.on("ble:laptop-gateway"):
        arrived = [
            s for s in trace.on(step.link, event="arrived", target=step.target) if s.number == step.number
        ]
        assert [s.data for s in arrived] == [step.data]
        assert arrived[0].at >= step.at


def test_a_cut_line_loses_what_is_sent_and_goes_down(played: Any) -> None:
    trace: Trace = played(mixed).trace
    assert {step.link for step in trace.lost()} == {"serial:gateway-device.2"}
    down = [step for step in trace if step.event == "link-down"]
    assert [(step.link, step.reason) for step in down] == [
        ("serial:gateway-device.2", "nothing heard for 15 s")
    ] * 2


def test_a_seed_gives_the_same_trace_byte_for_byte(played: Any) -> None:
    first, again, other = (played(mixed, seed=seed).trace for seed in (3, 3, 4))
    assert first.json_lines() == again.json_lines()
    assert first.svg() == again.svg()
    assert first.json_lines() != other.json_lines()


def test_a_seed_gives_the_same_trace_in_another_process() -> None:
    program = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
        "from test_trace import mixed\n"
        "from boards.network import Network\n"
        "network = Network(seed=9); network.run(mixed(network))\n"
        "sys.stdout.write(network.trace.json_lines())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0].count(b"\n") > 50
    assert outputs[0] == outputs[1]


def test_json_lines_have_these_keys(played: Any) -> None:
    lines = [json.loads(line) for line in played(mixed).trace.json_lines().splitlines()]
    keys = {
        "link-up": ["time", "event", "link", "from", "to"],
        "link-down": ["time", "event", "link", "from", "to", "reason"],
    }
    message = [
        "time", "event", "link", "from", "to", "message", "bytes", "onward", "return", "contents", "readable",
    ]  # fmt: skip
    assert {line["event"] for line in lines} == {"link-up", "link-down", "sent", "arrived"}
    for line in lines:
        assert list(line) == keys.get(line["event"], message)
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def recorded() -> Trace:
    """A trace of three messages: readable, sealed and lost, and one that was changed."""
    trace = Trace()
    clock = iter(range(100))
    trace.now = lambda: next(clock) / 4
    sealed = Address.local("box")
    trace.contents_of = lambda address: Contents.SEALED if address == sealed else Contents.PLAIN
    plain = encode_message_head(Route.of("echo"), Route.of("asker")) + b"\x42hi"
    closed = encode_message_head(Route.of("box"), Route()) + b"\x58\x28" + bytes(40)
    trace.sent("serial:a-b", "a", "b", plain)
    trace.arrived("serial:a-b", "a", "b", plain)
    trace.sent("serial:a-b", "b", "a", closed)
    trace.sent("memory:b-<c>", "b", "<c>", closed)
    trace.arrived("memory:b-<c>", "b", "<c>", closed)
    trace.arrived("memory:b-<c>", "b", "<c>", b"\x00" + closed[1:])
    trace.link_changed("link-down", "serial:a-b", "a", "b", "cut")
    return trace


def test_the_text_picture_is_this() -> None:
    assert recorded().text() == Path(__file__).with_name("trace.txt").read_text()


def test_the_text_picture_shows_the_last_ones() -> None:
    text = recorded().text(most=2)
    assert "(3 earlier ones are not shown)" in text
    assert text.count("\n") == 4


def test_the_svg_picture_is_well_formed_and_shows_each_message() -> None:
    root = ElementTree.fromstring(recorded().svg())
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for group in root.iter(f"{space}g") for title in group.iter(f"{space}title")]
    assert titles == ["21 B plain", "51 B sealed", "51 B sealed", "51 B damaged"]
    assert "<c>" in [text.text for text in root.iter(f"{space}text")]
    dashed = [line for line in root.iter(f"{space}line") if "stroke-dasharray" in line.attrib]
    assert len(dashed) == 1


def test_an_empty_trace_can_be_drawn() -> None:
    assert Trace().text() == "seconds\n"
    ElementTree.fromstring(Trace().svg())
    assert Trace().json_lines() == ""


@pytest.mark.parametrize(("name", "begin"), [("t.svg", "<svg"), ("t.txt", "seconds"), ("t.jsonl", '{"time"')])
def test_a_trace_is_written_as_its_file_is_called(tmp_path: Path, name: str, begin: str) -> None:
    for path in (tmp_path / name, f"{tmp_path}/of-text-{name}"):
        recorded().write(path)
        assert Path(path).read_text().startswith(begin)


def test_a_trace_keeps_so_much_and_says_that_it_is_full() -> None:
    trace = Trace(most_bytes=3000)
    for _ in range(10):
        trace.sent("memory:a-b", "a", "b", bytes(500))
    assert (len(trace), trace.is_full) == (3, True)


def test_the_trace_ends_before_the_nodes_are_closed(played: Any) -> None:
    async def body(network: Network) -> None:
        here, there = await network.node("here"), await network.node("there")
        hop = await network.memory(here, there)
        await here.connect(hop.endpoint)
        assert isinstance(here, Node)

    assert [step.event for step in played(body).trace] == ["link-up", "link-up"]
