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
) -> None:
    place = our_relay if relay == "ockamlite" else rust_node.clear
    name = f"{outlet}-for-{inlet}".lower()
    if outlet == "ockamlite":
        allowed = ours.identifier("client") if inlet == "ockamlite" else rust.identifier("client")
        words = (f"tcp:{target}", "--relay", place.hops(), "--name", name, "--allow", allowed)
        _, ready = ours.start("outlet", *words)
        assert ready["relays"] == [{"at": place.hops(), "address": f"forward_to_{name}"}]
        identifier, listener = ready["identifier"], ours.OUTLET_LISTENER
    else:
        behind = rust.outlet_at(place, name, target)
        identifier, listener = behind.identifier, behind.listener

    if inlet == "Rust":
        port = rust.inlet(rust_node_at(place, name, listener, identifier), only=identifier)
    elif outlet == "ockamlite":
        words = ("--relay", place.hops(), "--name", name, "--allow", identifier)
        port = ours.inlet(*words, "--identity", "client")
    else:
        route = f"{place.hops()},forward_to_{name},secure:{listener},outlet"
        port = ours.inlet("--to", route, "--allow", identifier)
    portal_user.chat(port, 20)
    portal_user.exchange(port)


def rust_node_at(relay: Any, name: str, listener: str, identifier: str) -> Any:
    """The place of an outlet that is `name` at a relay."""
    return type(relay)(relay.port, listener, name, identifier)


@pytest.mark.proves("registration through a secure channel", "outlet ockamlite → relay Rust")
def test_our_outlet_registers_at_a_rust_relay_through_a_channel(
    ours: Any, rust: Any, rust_node: Any, target: str, portal_user: Any
) -> None:
    words = (f"tcp:{target}", "--relay", rust_node.hops(), "--name", "sealed", "--allow-relay")
    _, ready = ours.start("outlet", *words, rust_node.identifier, "--allow", rust.identifier("client"))
    place = rust_node_at(rust_node, "sealed", ours.OUTLET_LISTENER, ready["identifier"])
    portal_user.chat(rust.inlet(place, only=ready["identifier"]), 3)


@pytest.mark.proves("message through a relay", "ockamlite → relay ockamlite → Rust")
def test_a_message_reaches_a_rust_node_behind_our_relay(
    ours: Any, rust: Any, our_relay: Any, target: str
) -> None:
    behind = rust.outlet_at(our_relay, "spoken-to", target)
    printed = (
        ours.ask("send", behind.hops("echo"), "hello", "--allow", behind.identifier)
        if not is_peer(rust)
        else (ours.ask("send", behind.hops("echoer"), "hello", "--allow", behind.identifier))
    )
    assert printed == "hello"


def is_peer(rust: Any) -> bool:
    """True of our own Rust program, whose outlet serves `echoer` beside it."""
    return type(rust).__name__ == "RustPeer"
