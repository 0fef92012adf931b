"""Single messages and long conversations with a Rust node, in clear and through a secure channel.

The routing message, BARE strings, the handshake (XX) and the rekeying of the channel (every 32 messages) are
proved by what the other implementation answers.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

CONVERSATION = 250
"""More than six rekeyings each way."""
TALKER = """
import asyncio, sys
from ockamlite import Node, TrustEveryone

async def main(port, listener, count):
    async with Node() as node:
        link = await node.connect(f"tcp:127.0.0.1:{port}")
        channel = await node.secure_channel(link.route / listener, trust=TrustEveryone())
        for number in range(int(count)):
            reply = await node.ask(channel.route / "uppercase", f"message {number}")
            assert reply.text == f"MESSAGE {number}", reply
        print(channel.peer, count)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.proves("message in clear", "ockamlite → Rust")
def test_a_rust_node_answers_our_message_in_clear(ours: Any, rust_node: Any) -> None:
    assert ours.send(rust_node.clear, "echo", "grüß dich") == "grüß dich"
    assert ours.send(rust_node.clear, "uppercase", "hello") == "HELLO"


@pytest.mark.proves("message in clear", "ockamlite → Rust")
def test_exact_bytes_come_back_from_a_rust_echo(ours: Any, rust_node: Any) -> None:
    payload = "0568656c6c6f"  # a BARE string, which both Rust programs can echo
    assert ours.ask("send", rust_node.clear.hops("echo"), payload, "--hex") == payload


@pytest.mark.proves("message in clear", "Rust → ockamlite")
@pytest.mark.parametrize(("worker", "reply"), [("echo", "hello"), ("uppercase", "HELLO")])
def test_our_node_answers_a_rust_message_in_clear(rust: Any, our_node: Any, worker: str, reply: str) -> None:
    assert rust.send(our_node.clear, worker, "hello") == reply


@pytest.mark.proves("secure channel", "ockamlite → Rust")
def test_we_open_a_channel_to_a_rust_listener(ours: Any, rust_node: Any) -> None:
    printed = ours.ask(
        "send", rust_node.hops("uppercase"), "hello", "--allow", rust_node.identifier, "--output", "json"
    )
    reply = json.loads(printed)
    assert (reply["text"], reply["peer"]) == ("HELLO", rust_node.identifier)


@pytest.mark.proves("secure channel", "Rust → ockamlite")
@pytest.mark.parametrize(("worker", "reply"), [("echo", "hello"), ("uppercase", "HELLO")])
def test_a_rust_node_opens_a_channel_to_us(rust: Any, our_node: Any, worker: str, reply: str) -> None:
    assert rust.send(our_node, worker, "hello") == reply


@pytest.mark.proves("secure channel", "Rust → ockamlite")
def test_a_rust_node_learns_our_identifier_from_the_handshake(rust: Any, our_node: Any) -> None:
    assert rust.responder(our_node) == our_node.identifier


@pytest.mark.proves("250 messages over a channel", "Rust → ockamlite")
def test_a_rust_channel_to_us_outlives_its_rekeyings(rust_peer: Any, our_node: Any) -> None:
    _, done = rust_peer.channel(our_node, "--to", "echo", "--count", str(CONVERSATION), "--size", "100")
    assert done["count"] == CONVERSATION


@pytest.mark.proves("250 messages over a channel", "ockamlite → Rust")
def test_our_channel_to_rust_outlives_its_rekeyings(ours: Any, rust_node: Any) -> None:
    printed = ours.python(TALKER, str(rust_node.port), rust_node.listener, str(CONVERSATION))
    assert printed == f"{rust_node.identifier} {CONVERSATION}"
