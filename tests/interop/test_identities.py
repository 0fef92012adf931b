"""Identities across implementations: histories, whom each side lets in, and a rotated key.

Each handshake here also verifies a purpose key attestation of the other implementation, or it would not end.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

REFUSED = 77
NO_ANSWER = 75


@pytest.mark.proves("change history", "ockamlite → Rust")
def test_rust_computes_our_identifier_from_our_history(ours: Any, rust: Any) -> None:
    assert rust.identifier_of(ours.ask("identity", "export")) == ours.identifier()


@pytest.mark.proves("change history", "ockamlite → Rust")
def test_rust_accepts_the_history_of_a_rotated_identity(newcomer: Any, rust: Any) -> None:
    before = newcomer.identifier()
    newcomer.ask("identity", "rotate")
    exported = json.loads(newcomer.ask("identity", "export", "--output", "json"))
    assert exported["changes"] == 2
    assert rust.identifier_of(exported["history"]) == before


@pytest.mark.proves("rotation: a peer that knew the old history accepts the new", "ockamlite → Rust")
def test_a_rust_listener_accepts_the_rotated_key_of_an_identity_it_knew(newcomer: Any, rust: Any) -> None:
    identifier = newcomer.identifier()
    place = rust.node(only=identifier)
    assert newcomer.send(place, "uppercase", "old key", "--allow", place.identifier) == "OLD KEY"
    assert newcomer.ask("identity", "rotate") == identifier
    assert newcomer.send(place, "uppercase", "new key", "--allow", place.identifier) == "NEW KEY"


@pytest.mark.proves("rotation: a peer that knew the old history accepts the new", "Rust → ockamlite")
def test_a_rust_initiator_accepts_the_rotated_key_of_a_node_it_knew(newcomer: Any, rust: Any) -> None:
    identifier = newcomer.identifier()
    program, place = newcomer.listening("node", "--trust-everyone")
    assert rust.send(place, "uppercase", "old key") == "OLD KEY"
    program.stop()
    newcomer.ask("identity", "rotate")
    _, place = newcomer.listening("node", "--trust-everyone")
    assert place.identifier == identifier
    assert rust.send(place, "uppercase", "new key", only=identifier) == "NEW KEY"


@pytest.mark.proves("Rust listener restricted to an identifier", "ockamlite → Rust")
def test_a_restricted_rust_listener_lets_the_right_identity_in_only(ours: Any, rust: Any) -> None:
    right, wrong = ours.identifier("right"), ours.identifier("wrong")
    assert right != wrong
    place = rust.node(only=right)
    words = ("send", place.hops("uppercase"), "hello", "--allow", place.identifier, "--timeout", "4")
    assert ours.ask(*words, "--identity", "right") == "HELLO"
    done = ours.run(*words, "--identity", "wrong")
    assert (done.returncode, done.stdout) == (NO_ANSWER, "")
    assert done.stderr.startswith("ockamlite: ")
    assert "trust" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.proves("Rust initiator restricted to an identifier", "Rust → ockamlite")
def test_a_rust_initiator_talks_to_the_identity_it_expects_only(
    ours: Any, rust: Any, our_node: Any, refused: type[Exception]
) -> None:
    assert rust.send(our_node, "uppercase", "hello", only=our_node.identifier) == "HELLO"
    with pytest.raises(refused):
        rust.send(our_node, "uppercase", "hello", only=ours.identifier("wrong"))


@pytest.mark.proves("ockamlite listener restricted to an identifier", "Rust → ockamlite")
def test_our_restricted_listener_lets_the_right_rust_identity_in_only(
    ours: Any, rust: Any, refused: type[Exception]
) -> None:
    program, place = ours.listening("node", "--allow", rust.identifier("right"))
    assert rust.send(place, "uppercase", "hello", who="right") == "HELLO"
    with pytest.raises(refused):
        rust.send(place, "uppercase", "hello", who="wrong")
    event = program.event("refused")
    assert event["peer"] == rust.identifier("wrong")
    assert event["reason"]


@pytest.mark.proves("ockamlite initiator restricted to an identifier", "ockamlite → Rust")
def test_our_initiator_talks_to_the_rust_identity_it_expects_only(
    ours: Any, rust: Any, rust_node: Any
) -> None:
    done = ours.run("send", rust_node.hops("uppercase"), "hello", "--allow", rust.identifier("wrong"))
    assert (done.returncode, done.stdout) == (REFUSED, "")
    assert done.stderr.startswith("ockamlite: ")
    assert rust_node.identifier in done.stderr
    assert "Traceback" not in done.stderr
