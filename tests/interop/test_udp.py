"""UDP with a Rust node, dialect B, dialled by either: messages, channels and small portals.

Sizes around multiples of a piece are sent because Rust ends such a message with an empty piece, which it does
not take itself: we must take it, and must not send it.
"""

from __future__ import annotations

import json
import random
import socket
import sys
from typing import Any

import pytest

HOST = "127.0.0.1"
TO_RUST = "ockamlite → Rust"
TO_US = "Rust → ockamlite"
SOME_KIB = random.Random(3).randbytes(48 * 1024)

TALKER = """
import asyncio, sys
from ockamlite import Node, TrustEveryone
from ockamlite.bare import encode_str
from ockamlite.limits import LIMITS
from transports.udp import UdpTransport

async def main(where, listener, sizes):
    async with Node(transports=[UdpTransport(LIMITS)]) as node:
        route = (await node.connect(f"udp:{where}")).route
        if listener:
            route = (await node.secure_channel(route / listener, trust=TrustEveryone())).route
        for size in map(int, sizes.split(",")):
            payload = encode_str("x" * size)
            reply = await node.ask(route / "echo", payload)
            assert reply.payload == payload, size
        print((await node.ask(route / "uppercase", "hello")).text)

asyncio.run(main(*sys.argv[1:]))
"""

INLET = """
import asyncio, json, sys
from ockamlite import Node, TrustEveryone
from ockamlite.limits import LIMITS
from transports.udp import UdpTransport

async def main(hops):
    async with Node(transports=[UdpTransport(LIMITS)]) as node:
        inlet = await node.inlet("tcp:127.0.0.1:0", node.path(hops, trust=TrustEveryone()))
        print(json.dumps({"ready": True, "port": inlet.port}), flush=True)
        await node.until_interrupted()

asyncio.run(main(*sys.argv[1:]))
"""

SERVER = """
import asyncio, json, sys
from ockamlite import Node, TrustEveryone
from ockamlite.limits import LIMITS
from transports.udp import UdpTransport

async def main(target):
    async with Node(transports=[UdpTransport(LIMITS)]) as node:
        udp = await node.listen("udp:127.0.0.1:0")
        channels = node.secure_channel_listener("api", trust=TrustEveryone())
        node.open(channels.address, udp)
        node.open(node.uppercase(), udp)
        node.open("uppercase", channels)
        node.outlet(f"tcp:{target}")
        node.open("outlet", channels)
        print(json.dumps({"ready": True, "port": udp.endpoint.host_port.port}), flush=True)
        await node.until_interrupted()

asyncio.run(main(*sys.argv[1:]))
"""


class Udp:
    """Two implementations over UDP, whichever Rust program it is."""

    def __init__(self, ours: Any, rust: Any, programs: Any, target: str) -> None:
        self._ours = ours
        self._rust = rust
        self._programs = programs
        self._target = target

    @property
    def is_peer(self) -> bool:
        return type(self._rust).__name__ == "RustPeer"

    def _program(self, source: str, *words: str) -> int:
        argv = [sys.executable, "-c", source, *words]
        port: int = self._programs.start("ours-udp", argv, self._ours.env).event("ready")["port"]
        return port

    def our_node(self) -> int:
        return self._program(SERVER, self._target)

    def our_inlet(self, port: int, listener: str) -> int:
        return self._program(INLET, f"udp:{HOST}:{port},secure:{listener},outlet")

    def talk(self, port: int, listener: str, sizes: list[int]) -> str:
        printed: str = self._ours.python(TALKER, f"{HOST}:{port}", listener, ",".join(map(str, sizes)))
        return printed

    def rust_node(self) -> tuple[int, str]:
        """The UDP port of a Rust node with an outlet, and the name of its listener."""
        if self.is_peer:
            words = ["--udp", f"{HOST}:0", "--outlet", self._target]
            _, ready = self._rust.start("node", *words)
            return int(ready["udp"][0].rsplit(":", 1)[1]), "secure_channel_listener"
        port = free_udp_port()
        name = self._ockam_node(f"{HOST}:{port}")
        self._rust.ask("tcp-outlet", "create", "--at", name, "--to", self._target)
        return port, "api"

    def rust_says(self, port: int, listener: str, text: str) -> str:
        """What `uppercase` of our node answers a Rust node."""
        if self.is_peer:
            hops = f"udp:{HOST}:{port}" + (f",{listener}" if listener else "")
            clear = () if listener else ("--clear",)
            self._rust.channel_by(
                "--route", hops, *clear, "--to", "uppercase", "--text", text, "--timeout", "4"
            )
            return text.upper()  # the program compares the reply itself
        secure = f"/secure/{listener}" if listener else ""
        to = f"/ip4/{HOST}/udp/{port}{secure}/service/uppercase"
        said: str = self._rust.ask("message", "send", text, "--from", self._ockam_node(None), "--to", to)
        return said

    def rust_inlet(self, port: int, listener: str) -> int:
        if self.is_peer:
            hops = ["--route", f"udp:{HOST}:{port}", "--secure", listener]
            _, ready = self._rust.start("inlet", "--listen", f"{HOST}:0", *hops)
            return int(ready["listen"].rsplit(":", 1)[1])
        to = f"/ip4/{HOST}/udp/{port}/secure/{listener}/service/outlet"
        words = ("--at", self._ockam_node(None), "--from", f"{HOST}:0", "--to", to, "--output", "json")
        shown = json.loads(self._rust.ask("tcp-inlet", "create", *words))
        return int(shown["bind_addr"].rsplit(":", 1)[1])

    def _ockam_node(self, listen: str | None) -> str:
        name = f"u{self._programs.mark()}"
        if "--no-status-endpoint" not in self._rust._quiet:
            pytest.skip("this release speaks no UDP")
        words = ["--tcp-listener-address", f"{HOST}:0", "--udp", *self._rust._quiet]
        words += ["--udp-listener-address", listen] if listen else []
        argv = [self._rust._binary, "node", "create", name, "-f", "--exit-on-eof", *words]
        program = self._programs.start("ockam-udp", argv, self._rust._env)
        # It prints nothing when it serves.
        for _ in range(100):
            done = self._rust._call("node", "show", name, "--output", "json")
            shown = json.loads(done.stdout) if done.returncode == 0 else {}
            if isinstance(shown, dict) and shown.get("status") == "running":
                return name
        raise AssertionError(program.log())


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def exchange(port: int) -> None:
    """Some KiB through the echo of the service and back, a few at a time: nothing repeats what is lost."""
    with socket.create_connection((HOST, port), timeout=10) as client:
        client.sendall(b"ECHO / HTTP/1.1\r\nHost: service\r\n\r\n")
        for at in range(0, len(SOME_KIB), 16_384):
            chunk = SOME_KIB[at : at + 16_384]
            client.sendall(chunk)
            came = b""
            while len(came) < len(chunk):
                more = client.recv(65_536)
                assert more, f"closed after {at + len(came)} bytes"
                came += more
            assert came == chunk


@pytest.fixture
def udp(ours: Any, rust: Any, programs: Any, target: str) -> Udp:
    return Udp(ours, rust, programs, target)


@pytest.mark.proves("UDP: messages of all sizes in clear", TO_RUST)
def test_a_rust_node_answers_our_datagrams(udp: Udp) -> None:
    port, _ = udp.rust_node()
    sizes = [0, 100, *range(440, 500), *range(930, 990), 5000, 40_000]
    assert udp.talk(port, "", sizes) == "HELLO"


@pytest.mark.proves("UDP: secure channel", TO_RUST)
def test_we_open_a_channel_to_a_rust_node_over_udp(udp: Udp) -> None:
    port, listener = udp.rust_node()
    assert udp.talk(port, listener, [100] * 100) == "HELLO"


@pytest.mark.proves("UDP: portal", "inlet ockamlite → outlet Rust")
def test_our_inlet_reaches_a_rust_outlet_over_udp(udp: Udp) -> None:
    exchange(udp.our_inlet(*udp.rust_node()))


@pytest.mark.proves("UDP: message in clear", TO_US)
def test_our_node_answers_rust_datagrams(udp: Udp) -> None:
    assert udp.rust_says(udp.our_node(), "", "hello") == "HELLO"


@pytest.mark.proves("UDP: secure channel", TO_US)
def test_a_rust_node_opens_a_channel_to_us_over_udp(udp: Udp) -> None:
    assert udp.rust_says(udp.our_node(), "api", "hello") == "HELLO"


@pytest.mark.proves("UDP: portal", "inlet Rust → outlet ockamlite")
def test_a_rust_inlet_reaches_our_outlet_over_udp(udp: Udp) -> None:
    exchange(udp.rust_inlet(udp.our_node(), "api"))
