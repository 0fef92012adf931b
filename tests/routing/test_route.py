"""Routes: the text, CBOR and BARE forms that Rust gives them, and how they are put together."""

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
from ockamlite.routing.address import TCP, Address
from ockamlite.routing.route import EMPTY_ROUTE, Route

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/routing.json").read_text())


@pytest.mark.parametrize("case", VECTORS["routes"], ids=lambda case: repr(case["text"][:40]))
def test_a_route_has_the_bytes_of_rust_both_ways(case: dict[str, Any]) -> None:
    route = Route(Address(hop["transport_type"], bytes.fromhex(hop["body"])) for hop in case["addresses"])
    assert cbor.encode(route).hex() == case["cbor"]
    assert cbor.decode(bytes.fromhex(case["cbor"])) == [list(hop) for hop in route]
    kind = tuple[tuple[U8, bytes], ...]
    assert bare.encode(tuple(map(tuple, route)), kind).hex() == case["bare"]
    assert bare.decode(bytes.fromhex(case["bare"]), kind) == route
    if "Invalid UTF-8" not in case["text"]:
        assert str(route) == case["text"]


@pytest.mark.parametrize("case", VECTORS["route_text"], ids=lambda case: repr(case["text"]))
def test_a_text_is_read_as_rust_reads_it(case: dict[str, Any]) -> None:
    if case["parsed"] in (None, "panic"):
        with pytest.raises(UsageError):
            Route.parse(case["text"])
    else:
        assert [str(hop) for hop in Route.parse(case["text"])] == case["parsed"]


def test_a_route_is_built_of_names_addresses_and_routes() -> None:
    link = Address(TCP, b"h:1")
    route = Route.of("a", link, Route.of("b", "c"), [Address.local("d")])
    assert str(route) == "0#a => 1#h:1 => 0#b => 0#c => 0#d"
    assert Route.of("a") / link / Route.of("b", "c") / "d" == route
    assert route[0] == Address.local("a")
    assert type(route.rest) is Route
    assert str(route.rest) == "1#h:1 => 0#b => 0#c => 0#d"


def test_an_empty_route_is_false_and_has_no_rest() -> None:
    assert not EMPTY_ROUTE
    assert EMPTY_ROUTE.rest == EMPTY_ROUTE
    assert str(EMPTY_ROUTE) == ""


NAMES = st.text(st.characters(exclude_characters="#>", exclude_categories=["Cs"])).map(str.strip)


@given(st.lists(st.tuples(st.integers(0, 255), NAMES), min_size=1, max_size=6))
def test_every_route_with_a_text_comes_back(hops: list[tuple[int, str]]) -> None:
    route = Route(Address(transport, name.encode()) for transport, name in hops)
    assert Route.parse(str(route)) == route


@given(st.text(st.characters() | st.sampled_from("#=>0 1")))
def test_any_text_is_a_route_or_a_usage_error(text: str) -> None:
    try:
        route = Route.parse(text)
    except UsageError:
        return
    assert len(route) == 1 + text.count("=>")
