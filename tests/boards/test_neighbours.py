"""Nodes that announce themselves by mDNS are found; what they say is not believed blindly."""

from __future__ import annotations

import sys

import pytest

from boards.neighbours import Neighbour, _neighbour, announce, browse
from ockamlite.errors import UsageError
from ockamlite.routing.endpoint import HostPort


async def test_a_node_that_announces_itself_is_found() -> None:
    pytest.importorskip("zeroconf", reason="pip install 'ockamlite[mdns]'")
    async with announce("gateway", HostPort("127.0.0.1", 4000), ["127.0.0.1"]):
        async for found in browse(10, ["127.0.0.1"]):
            assert found == Neighbour("gateway", "127.0.0.1", 4000)
            assert str(found.endpoint) == "tcp:127.0.0.1:4000"
            break
        else:
            pytest.fail("nobody was found")


async def test_looking_for_nobody_ends_in_time() -> None:
    pytest.importorskip("zeroconf", reason="pip install 'ockamlite[mdns]'")
    assert [found async for found in browse(0.05, ["127.0.0.1"])] == []


async def test_without_the_extra_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(UsageError) as raised:
        await anext(browse(1))
    assert raised.value.hint == "pip install 'ockamlite[mdns]'"


@pytest.mark.parametrize(
    ("addresses", "host"),
    [
        (["fe80::1%eth0", "192.0.2.7"], "192.0.2.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["::7", "192.0.2.7"], "192.0.2.7"),
        (["rubbish", "192.0.2.7"], "192.0.2.7"),
    ],
)
def test_the_simplest_address_is_dialled(addresses: list[str], host: str) -> None:
    found = _neighbour("a._ockamlite._tcp.local.", addresses, 4000)
    assert found == Neighbour("a", host, 4000)
    assert str(found.endpoint).startswith("tcp:")


@pytest.mark.parametrize(
    ("addresses", "port"), [([], 1), (["192.0.2.7"], 0), (["192.0.2.7"], None), (["x"], 1)]
)
def test_what_leads_nowhere_is_no_neighbour(addresses: list[str], port: int | None) -> None:
    assert _neighbour("a", addresses, port) is None
