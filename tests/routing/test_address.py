"""Addresses: the text, CBOR and BARE forms that Rust gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite import bare, cbor
from ockamlite.bare import U8
from ockamlite.errors import UsageError
from ockamlite.routing.address import LOCAL, TCP, Address, random_address

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/routing.json").read_text())


def address_of(case: dict[str, Any]) -> Address:
    return Address(case["transport_type"], bytes.fromhex(case["body"]))


@pytest.mark.parametrize("case", VECTORS["addresses"], ids=lambda case: case["text"][:30])
def test_an_address_has_the_bytes_of_rust_both_ways(case: dict[str, Any]) -> None:
    address = address_of(case)
    assert cbor.encode(address).hex() == case["cbor"]
    assert cbor.decode(bytes.fromhex(case["cbor"])) == list(address)
    assert bare.encode(tuple(address), tuple[U8, bytes]).hex() == case["bare"]
    assert bare.decode(bytes.fromhex(case["bare"]), tuple[U8, bytes]) == address
    # Where Rust says that a body is not text, we show its bytes: a log line must tell two apart.
    if "Invalid UTF-8" not in case["text"]:
        assert str(address) == case["text"]


@pytest.mark.parametrize("case", VECTORS["address_text"], ids=lambda case: repr(case["text"]))
def test_a_text_is_read_as_rust_reads_it(case: dict[str, Any]) -> None:
    parsed = case["parsed"]
    if "ok" in parsed:
        assert Address.parse(case["text"]) == address_of(parsed["ok"])
        assert str(Address.parse(case["text"])) == parsed["ok"]["text"]
    else:
        with pytest.raises(UsageError):
            Address.parse(case["text"])


@pytest.mark.parametrize(
    "text", ["+1#x", "1 #x", "0x1#a", "¹#a", "9" * 5000 + "#a", "\udcff", "1#\udcff", "a\n#b"]
)
def test_a_text_that_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)


def test_a_name_that_is_not_utf8_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        Address.local("\udcff")


def test_bytes_that_are_not_text_are_shown_escaped() -> None:
    assert str(Address(LOCAL, b"a\xff\x00")) == "0#a\\xff\x00"
    assert Address(LOCAL, b"\xff").name == "\\xff"


def test_type_and_body_make_an_address() -> None:
    assert Address.local("x") == Address.local(b"x") == Address(LOCAL, b"x")
    assert Address(LOCAL, b"x") != Address(TCP, b"x")
    assert Address.local("x").is_local
    assert not Address(TCP, b"x").is_local


def test_random_addresses_are_local_short_and_different() -> None:
    addresses = {random_address() for _ in range(100)}
    assert len(addresses) == 100
    assert all(
        address.is_local and len(address.body) == 12 and address.body.isalnum() for address in addresses
    )


@given(st.text(st.characters(exclude_characters="#", exclude_categories=["Cs"])), st.integers(0, 255))
def test_every_address_with_a_text_comes_back(name: str, transport: int) -> None:
    address = Address(transport, name.encode())
    assert Address.parse(str(address)) == address


@given(st.text(st.characters()))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except UsageError:
        return
    assert 0 <= address.transport <= 255
