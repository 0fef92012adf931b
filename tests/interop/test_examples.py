"""The programs of `examples/` that keep the arguments of Ockam's guides, each with a Rust program beside it.

`ockam-peer` is the guides' hub and the guides' other half: `relay` registers as bob does, `channel` is alice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = "examples of the guides"


def forwarding_address(line: str) -> str:
    """The address that a relay gave, where a line tells one."""
    found = re.search(r"forward_to_\w+|\b[0-9a-f]{32}\b", line)
    return found.group() if found else ""


@pytest.mark.proves(EXAMPLES, "alice ockamlite → hub Rust → bob ockamlite")
def test_alice_and_bob_meet_at_a_rust_relay(rust_peer: Any, example: Callable[..., Any]) -> None:
    hub = f"127.0.0.1:{rust_peer.node().port}"
    address = example("bob", hub).line(forwarding_address, "forwarding address")
    alice = example("alice", hub)
    alice.say(f"{address}\nhello\n")
    assert alice.line(lambda line: "hello" in line.lower(), "bob's answer")


@pytest.mark.proves(EXAMPLES, "alice ockamlite → hub ockamlite → bob Rust")
def test_alice_reaches_a_rust_bob(rust_peer: Any, example: Callable[..., Any], free_port: int) -> None:
    example("relay", str(free_port)).line(str.strip, "listening address")
    _, bob = rust_peer.start("relay", "--register", f"tcp:127.0.0.1:{free_port}")
    alice = example("alice", f"127.0.0.1:{free_port}")
    alice.say(f"{bob['remote_address']}\nhello\n")
    assert alice.line(lambda line: "hello" in line.lower(), "bob's answer")


@pytest.mark.proves(EXAMPLES, "alice Rust → hub Rust → bob ockamlite")
def test_a_rust_alice_reaches_our_bob(rust_peer: Any, example: Callable[..., Any]) -> None:
    hub = rust_peer.node()
    address = example("bob", f"127.0.0.1:{hub.port}").line(forwarding_address, "forwarding address")
    route = f"{hub.clear.hops()},{address},listener"
    _, done = rust_peer.channel_by("--route", route, "--to", "echoer", "--count", "3")
    assert done["count"] == 3


@pytest.mark.proves(EXAMPLES, "03_inlet Rust → 03_outlet ockamlite")
def test_a_rust_inlet_reaches_our_third_outlet(
    rust_peer: Any, example: Callable[..., Any], free_port: int, target: str, place: Any, portal_user: Any
) -> None:
    example("03_outlet", target, str(free_port)).line(str.strip, "listening address")
    portal_user.chat(rust_peer.inlet(place(free_port, "secure_channel_listener")), 3)


@pytest.mark.proves(EXAMPLES, "inlet Rust → hub Rust → 04_outlet ockamlite")
def test_a_rust_inlet_reaches_our_fourth_outlet(
    rust_peer: Any, example: Callable[..., Any], target: str, portal_user: Any
) -> None:
    hub = rust_peer.node()
    outlet = example("04_outlet", target, f"127.0.0.1:{hub.port}")
    address = outlet.line(forwarding_address, "forwarding address")
    route = f"{hub.clear.hops()},{address}"
    _, ready = rust_peer.start(
        "inlet", "--listen", "127.0.0.1:0", "--route", route, "--secure", "secure_channel_listener"
    )
    portal_user.chat(int(ready["listen"].rsplit(":", 1)[1]), 3)
