"""A node in the middle that only passes messages on: the ends share a channel, the middle sees ciphertext."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.proves("channel through a forwarding node", "ockamlite → Rust → ockamlite")
def test_our_channel_passes_through_a_rust_node(ours: Any, rust_peer: Any, our_node: Any) -> None:
    middle = rust_peer.node(forward=f"onward=tcp:127.0.0.1:{our_node.port}")
    route = f"{middle.clear.hops('onward')},secure:{our_node.listener},uppercase"
    assert ours.ask("send", route, "hello", "--allow", our_node.identifier) == "HELLO"


@pytest.mark.proves("channel through a forwarding node", "Rust → ockamlite → Rust")
def test_a_rust_channel_passes_through_our_node(ours: Any, rust_peer: Any) -> None:
    far = rust_peer.node()
    _, middle = ours.listening("node", "--insecure", "--forward", f"tcp:127.0.0.1:{far.port}")
    # 1#HOST:PORT is a TCP hop that the node in the middle dials.
    words = ("--route", f"{middle.clear.hops()},1#127.0.0.1:{far.port},{far.listener}", "--to", "uppercase")
    ready, done = rust_peer.channel_by(*words, "--count", "50")
    assert (ready["responder"], done["count"]) == (far.identifier, 50)


@pytest.mark.proves("forwarding not allowed", "Rust → ockamlite ↛ Rust")
def test_our_node_dials_nothing_for_a_rust_node_unless_told(
    rust_peer: Any, our_node: Any, refused: type[Exception]
) -> None:
    far = rust_peer.node()
    route = f"{our_node.clear.hops()},1#127.0.0.1:{far.port},{far.listener}"
    with pytest.raises(refused):
        rust_peer.channel_by("--route", route, "--timeout", "3")
