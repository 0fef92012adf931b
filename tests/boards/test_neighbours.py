"""Nodes that announce themselves by mDNS are found; what they say is not believed blindly."""

from __future__ import annotations

import ipaddress
import sys

import pytest

from boards import neighbours
from boards.neighbours import Neighbour, _neighbour, announce, browse, check_announced
from ockamlite.errors import UnavailableError, UsageError
from ockamlite.routing.endpoint import HostPort


async def test_a_node_that_announces_itself_is_found() -> None:
    pytest.importorskip("zeroconf", reason="pip install 'ockamlite[mdns]'")
    async with announce("gateway", HostPort("127.0.0.1", 4000), ["127.0.0.1"]) as name:
        assert name == "gateway"
        async for found in browse(10, ["127.0.0.1"]):
            assert found == Neighbour("gateway", "127.0.0.1", 4000)
            assert str(found.endpoint) == "tcp:127.0.0.1:4000"
            break
        else:
            pytest.fail("nobody was found")


async def test_a_name_that_is_taken_gets_a_number() -> None:
    pytest.importorskip("zeroconf", reason="pip install 'ockamlite[mdns]'")
    here = HostPort("127.0.0.1", 4000)
    async with announce("two", here, ["127.0.0.1"]), announce("two", here, ["127.0.0.1"]) as second:
        assert second == "two-2"


async def test_who_listens_everywhere_is_found_at_the_addresses_of_its_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("zeroconf", reason="pip install 'ockamlite[mdns]'")
    monkeypatch.setattr(neighbours, "_own_addresses", lambda: ["192.0.2.7", "2001:db8::7"])
    async with announce("everywhere", HostPort("::", 4000), ["127.0.0.1"]):
        async for found in browse(10, ["127.0.0.1"]):
            if found.name == "everywhere":
                assert found == Neighbour("everywhere", "192.0.2.7", 4000)
                break
        else:
            pytest.fail("it was not found")


async def test_a_machine_without_a_network_has_nothing_to_announce(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zeroconf", reason="pip install 'ockamlite[mdns]'")
    monkeypatch.setattr(neighbours, "_own_addresses", list)
    with pytest.raises(UnavailableError, match="no address"):
        async with announce("nowhere", HostPort("0.0.0.0", 4000)):
            pytest.fail("it was announced")


def test_addresses_that_only_this_machine_or_link_knows_are_not_told() -> None:
    pytest.importorskip("ifaddr", reason="pip install 'ockamlite[mdns]'")
    for address in map(ipaddress.ip_address, neighbours._own_addresses()):
        assert not address.is_loopback
        assert not address.is_link_local


@pytest.mark.parametrize("name", ["", "x" * 61, "a.b", "line\nend"])
def test_a_name_that_no_neighbour_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name to announce"):
        check_announced(name)


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
