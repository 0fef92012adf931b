"""A relay, an outlet and an inlet, each of either implementation: every mix but the one without Rust.

The relay in the middle carries the ciphertext of the channel between the ends, so these also prove Rust
between two `ockamlite` nodes and `ockamlite` between two Rust nodes.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

MIXES = [
    pytest.param(
        relay,
        outlet,
        inlet,
        id=f"{relay}-relay-{outlet}-outlet-{inlet}-inlet",
        marks=pytest.mark.proves(
            "portal through a relay", f"inlet {inlet} → relay {relay} → outlet {outlet}"
        ),
    )
    for relay, outlet, inlet in itertools.product(["ockamlite", "Rust"], repeat=3)
    if "Rust" in (relay, outlet, inlet)
]


@pytest.fixture(scope="module")
def our_relay(ours: Any, _programs_of_the_module: None) -> Any:
    """An `ockamlite` relay."""
    return ours.listening("relay")[1]


@pytest.mark.parametrize(("relay", "outlet", "inlet"), MIXES)
def test_a_portal_works_through_a_relay(
    relay: str,
    outlet: str,
    inlet: str,
    *,
    ours: Any,
    rust: Any,
    rust_node: Any,
    our_relay: Any,
    target: str,
    portal_user: Any,
    place: Any,
) -> None:
    relay_place = our_relay if relay == "ockamlite" else rust_node.clear
    name = f"{outlet}-for-{inlet}".lower()
    if outlet == "ockamlite":
        allowed = ours.identifier("client") if inlet == "ockamlite" else rust.identifier("client")
        words = (f"tcp:{target}", "--relay", relay_place.hops(), "--name", name, "--allow", allowed)
        _, ready = ours.start("outlet", *words)
        assert ready["relays"] == [{"at": relay_place.hops(), "address": f"forward_to_{name}"}]
        behind = place(relay_place.port, ours.OUTLET_LISTENER, name, ready["identifier"])
    else:
        behind = rust.outlet_at(relay_place, name, target)

    if inlet == "Rust":
        port = rust.inlet(behind, only=behind.identifier)
    elif outlet == "ockamlite":
        way = ("--relay", relay_place.hops(), "--name", name, "--allow", behind.identifier)
        port = ours.inlet(*way, "--identity", "client")
    else:
        port = ours.inlet("--to", behind.hops("outlet"), "--allow", behind.identifier)
    portal_user.chat(port, 20)
    portal_user.exchange(port)


@pytest.mark.proves("registration through a secure channel", "outlet ockamlite → relay Rust")
def test_our_outlet_registers_at_a_rust_relay_through_a_channel(
    ours: Any, rust: Any, rust_node: Any, target: str, portal_user: Any, place: Any
) -> None:
    if not rust.relays_through_channels:
        pytest.skip("this release's relays take no registration through a channel, not even its own")
    words = (f"tcp:{target}", "--relay", rust_node.hops(), "--name", "sealed", "--allow-relay")
    _, ready = ours.start("outlet", *words, rust_node.identifier, "--allow", rust.identifier("client"))
    behind = place(rust_node.port, ours.OUTLET_LISTENER, "sealed", ready["identifier"])
    portal_user.chat(rust.inlet(behind, only=behind.identifier), 3)


@pytest.mark.proves("message through a relay", "ockamlite → relay ockamlite → Rust")
def test_a_message_reaches_a_rust_node_behind_our_relay(
    ours: Any, rust: Any, our_relay: Any, target: str
) -> None:
    behind = rust.outlet_at(our_relay, "spoken-to", target)
    worker = "echoer" if type(rust).__name__ == "RustPeer" else "echo"  # what stands beside the outlet
    assert ours.ask("send", behind.hops(worker), "hello", "--allow", behind.identifier) == "hello"
