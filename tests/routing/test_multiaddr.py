"""MultiAddr: the text, the bytes and the routes that Rust makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.bare import encode_uint
from ockamlite.errors import DecodeError, UsageError
from ockamlite.limits import LIMITS
from ockamlite.routing.hops import LinkHop, NameHop, SecureHop, to_hops
from ockamlite.routing.multiaddr import MultiAddr, Part, Protocol, from_bytes, parse_multiaddr, to_bytes

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/multiaddr.json").read_text())

# Rust makes a route of these, we refuse to make hops, and why.
REFUSED = {
    "/service": "an empty name is a hop that was forgotten",
    "/service/": "an empty name is a hop that was forgotten",
}
# Rust refuses these, we make hops: it dials one link only, our paths have many.
TAKEN = {"/ip4/127.0.0.1/tcp/4000/ip4/127.0.0.1/tcp/4001/service/api"}


def route_of(address: MultiAddr) -> list[str]:
    found = []
    for hop in to_hops(address):
        match hop:
            case LinkHop(endpoint):
                found.append(f"{ {'tcp': 1, 'udp': 2}[endpoint.kind] }#{endpoint.details}")
            case SecureHop(name):
                found.append(f"0#{name}")
            case NameHop(name):
                found.append(f"0#{name.decode()}")
    return found


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: repr(case["text"]))
def test_a_text_has_the_bytes_and_the_print_of_rust(case: dict[str, Any]) -> None:
    if "parse_error" in case:
        with pytest.raises(UsageError):
            parse_multiaddr(case["text"])
        return
    address = parse_multiaddr(case["text"])
    assert str(address) == case["printed"]
    assert to_bytes(address).hex() == case["bytes"]
    assert [str(part.protocol.value) for part in address.parts] == [p["code"] for p in case["protocols"]]
    assert from_bytes(bytes.fromhex(case["bytes"])) == address
    assert parse_multiaddr(str(address)) == address


@pytest.mark.parametrize(
    "case", [case for case in VECTORS["cases"] if "bytes" in case], ids=lambda case: repr(case["text"])
)
def test_the_hops_are_the_route_of_rust(case: dict[str, Any]) -> None:
    address = parse_multiaddr(case["text"])
    route = case["transport_route"].get("ok")
    if case["text"] in TAKEN:
        assert route is None
        assert len(to_hops(address)) == 3
    elif route is None or case["text"] in REFUSED:
        with pytest.raises(UsageError, match=r"^route hop \d+, column \d+: "):
            to_hops(address)
    else:
        assert route_of(address) == route
        if "ok" in case["local_route"]:
            assert case["local_route"]["ok"] == route


@pytest.mark.parametrize("case", VECTORS["bytes"], ids=lambda case: case["name"])
def test_bytes_are_read_as_rust_reads_them(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["bytes"])
    if "ok" in case["parsed"]:
        assert str(from_bytes(data)) == case["parsed"]["ok"]
        assert to_bytes(from_bytes(data)) == data
    else:
        with pytest.raises(DecodeError):
            from_bytes(data)


@pytest.mark.parametrize("case", VECTORS["route_to_multiaddr"], ids=lambda case: str(case["route"]))
def test_a_local_route_is_the_text_that_rust_makes_of_it(case: dict[str, Any]) -> None:
    if "ok" in case["multiaddr"]:
        assert route_of(parse_multiaddr(case["multiaddr"]["ok"])) == case["route"]


@pytest.mark.parametrize(
    "data",
    [
        "bee80301ff",
        "bee803",
        "bee8030561",
        "bee803ffffffffffffffffff0161",
        "bee803812f",
        "bee803810061",
        "848000",
        "04",
        "29" + "00" * 15,
        "06",
        "0600",
        "3803612f62",
        "ffffffffffffffffffffff01",
        "bee803" + encode_uint(LIMITS.address_bytes + 1).hex() + "61" * (LIMITS.address_bytes + 1),
        "060001" * (LIMITS.route_hops + 1),
    ],
)
def test_bytes_that_are_no_multiaddr_are_a_decode_error(data: str) -> None:
    with pytest.raises(DecodeError):
        from_bytes(bytes.fromhex(data))


@pytest.mark.parametrize(
    "text",
    [
        "/tcp/+1",
        "/tcp/¹",
        "/tcp/000001",
        "/ip6/fe80::1%eth0",
        "/ip4/1.2.3.4\n",
        "/service/\ud800",
        "/service/" + "a" * (LIMITS.address_bytes + 1),
        "/service/a" * (LIMITS.route_hops + 1),
        "\ud800",
    ],
)
def test_texts_that_are_no_multiaddr_are_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_multiaddr(text)


@pytest.mark.parametrize(("value", "printed"), [("0::1", "::1"), ("::FFFF:127.0.0.1", "::ffff:127.0.0.1")])
def test_a_value_has_one_spelling(value: str, printed: str) -> None:
    assert Part(Protocol.IP6, value).value == printed


def test_a_value_with_a_slash_could_not_be_read_back() -> None:
    with pytest.raises(UsageError):
        Part(Protocol.SERVICE, "a/b")


NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=12)
PARTS = st.one_of(
    st.builds(Part, st.just(Protocol.IP4), st.ip_addresses(v=4).map(str)),
    st.builds(Part, st.just(Protocol.IP6), st.ip_addresses(v=6).map(str)),
    st.builds(Part, st.sampled_from([Protocol.TCP, Protocol.UDP]), st.integers(0, 65535).map(str)),
    st.builds(
        Part,
        st.sampled_from(
            [p for p in Protocol if p not in (Protocol.IP4, Protocol.IP6, Protocol.TCP, Protocol.UDP)]
        ),
        NAMES,
    ),
)
ADDRESSES = st.lists(PARTS, max_size=6).map(lambda parts: MultiAddr(tuple(parts)))


@given(ADDRESSES)
def test_every_address_comes_back_from_text_and_bytes(address: MultiAddr) -> None:
    assert parse_multiaddr(str(address)) == address
    assert from_bytes(to_bytes(address)) == address


@given(ADDRESSES, st.data())
def test_an_address_cut_short_is_refused_or_has_fewer_parts(address: MultiAddr, data: st.DataObject) -> None:
    encoding = to_bytes(address)
    cut = data.draw(st.integers(0, len(encoding)))
    try:
        found = from_bytes(encoding[:cut])
    except DecodeError:
        return
    assert found.parts == address.parts[: len(found.parts)]
    assert len(to_bytes(found)) == cut


@given(ADDRESSES.map(to_bytes) | st.binary(max_size=40), st.data())
def test_spoilt_bytes_cause_a_decode_error_or_another_address(encoding: bytes, data: st.DataObject) -> None:
    spoilt = bytearray(encoding)
    for place in data.draw(st.lists(st.integers(0, max(len(spoilt) - 1, 0)), max_size=4)) if spoilt else []:
        spoilt[place] = data.draw(st.integers(0, 255))
    try:
        address = from_bytes(bytes(spoilt))
    except DecodeError:
        return
    assert to_bytes(address) == spoilt
    assert parse_multiaddr(str(address)) == address


@given(
    st.text(st.characters() | st.sampled_from("/"), max_size=12),
    st.sampled_from(["", "/tcp/", "/ip6/", "/service/"]),
)
def test_any_text_is_an_address_or_a_usage_error(text: str, start: str) -> None:
    try:
        address = parse_multiaddr(start + text)
    except UsageError:
        return
    assert from_bytes(to_bytes(address)) == address
