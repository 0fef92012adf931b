"""Identifiers as text: what Rust parses we parse, what it refuses we refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ockamlite.errors import UsageError
from ockamlite.identities.identifier import Identifier

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "identities.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["identifier_text"], ids=lambda v: repr(v["text"][:6]))
def test_text_is_parsed_as_rust_parses_it(vector: Any) -> None:
    if "ok" in vector["parsed"]:
        assert str(Identifier.parse(vector["text"])) == vector["parsed"]["ok"]
    else:
        with pytest.raises(UsageError):
            Identifier.parse(vector["text"])


@pytest.mark.parametrize("text", ["I" + "٣" * 64, "I" + "0" * 63 + "\n0", "I" + "0x" * 32, "I" + "0 " * 32])
def test_only_hex_digits_are_digits(text: str) -> None:
    with pytest.raises(UsageError):
        Identifier.parse(text)


def test_text_that_is_no_identifier_is_quoted_in_part() -> None:
    with pytest.raises(UsageError) as raised:
        Identifier.parse("x" * 10_000)
    assert len(str(raised.value)) < 200


def test_printed_and_parsed_back_it_is_the_same_and_a_key_of_dicts() -> None:
    one = Identifier(bytes(range(32)))
    assert Identifier.parse(str(one)) == one
    assert eval(repr(one)) == one
    assert {one: 1}[Identifier(bytes(range(32)))] == 1
    assert len(str(one)) == 65


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33), bytearray(32)])
def test_an_identifier_has_32_bytes(digest: Any) -> None:
    with pytest.raises(UsageError):
        Identifier(digest)
