"""Registrations at a relay as Rust sends and answers them, and the names that are taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite import bare
from ockamlite.errors import ProtocolError, RemoteError
from ockamlite.relays.protocol import PREFIX, RANDOM, check_name, decode_registration, is_answer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "relay.json").read_text())


@pytest.mark.parametrize("case", VECTORS["cases"][:2], ids=lambda case: case["name"])
def test_a_recorded_registration_is_understood_and_its_answer_accepted(case: dict[str, object]) -> None:
    messages = case["messages"]
    assert isinstance(messages, list)
    asked, answered = (bytes.fromhex(m["payload"]) for m in messages)
    name = decode_registration(asked)
    assert name == (None if case["name"] == "ephemeral" else "bob")
    assert is_answer(answered, name)
    assert bare.decode_str(answered) == case["remote_address"]


def test_our_registrations_are_rusts_bytes() -> None:
    assert bare.encode_str(RANDOM).hex() == "087265676973746572"
    assert bare.encode_str("bob").hex() == "03626f62"
    assert bare.encode_str(PREFIX + "bob").hex() == "0e666f72776172645f746f5f626f62"


@pytest.mark.parametrize("name", ["pi", "my_node", "a-b.c~d@e+f", "x" * 128])
def test_names_that_routes_can_hold_are_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "a#b", "a,b", "a b", "a/b", "a:b", "a%b", "ü", "a\0b", "x" * 129])
def test_names_that_would_confuse_a_route_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        check_name(name)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_registration_or_a_remote_error(data: bytes) -> None:
    try:
        name = decode_registration(data)
    except RemoteError:
        return
    assert name is None or 0 < len(name) <= 128


def test_an_answer_for_another_name_is_none() -> None:
    assert not is_answer(bare.encode_str("forward_to_alice"), "bob")
    assert not is_answer(b"\xff", "bob")
