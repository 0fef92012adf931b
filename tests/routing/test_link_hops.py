"""Links as hops of a message: what is asked for is what is dialled, and hostile addresses ask for nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.errors import UsageError
from ockamlite.routing.address import BLE, SERIAL, TCP, UDP, UNIX, Address
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.link_hops import TYPES, asked_endpoint, link_address


@pytest.mark.parametrize(
    ("endpoint", "number", "body"),
    [
        ("tcp:host:4000", TCP, b"host:4000"),
        ("udp:[::1]:4000", UDP, b"[::1]:4000"),
        ("ble:pi cabinet".replace(" ", "%20"), BLE, b"pi cabinet"),
        ("unix:/run/x%3Fy", UNIX, b"/run/x?y"),
        ("serial:/dev/ttyUSB0", SERIAL, b"/dev/ttyUSB0"),
        ("serial:/dev/a%3Fb?baud=9600&rtscts=on", SERIAL, b"/dev/a%3Fb?baud=9600&rtscts=on"),
    ],
)
def test_an_address_asks_for_the_endpoint_it_was_made_of(endpoint: str, number: int, body: bytes) -> None:
    wanted = Endpoint.parse(endpoint)
    assert link_address(wanted) == Address(number, body)
    assert asked_endpoint(Address(number, body)) == wanted


def test_serial_lines_have_a_number_of_their_own() -> None:
    assert SERIAL == 200


def test_links_of_other_kinds_can_only_be_the_first_hop() -> None:
    with pytest.raises(UsageError, match="can only be the first hop"):
        link_address(Endpoint.parse("memory:x"))


def test_options_that_an_address_cannot_carry_are_not_dropped_silently() -> None:
    with pytest.raises(UsageError, match="the node that dials a ble link chooses its adapter") as raised:
        link_address(Endpoint.parse("ble:pi?adapter=hci1"))
    assert "--forward ble:pi?adapter=hci1" in raised.value.hint


@given(st.sampled_from([0, 77, 201, *TYPES.values()]), st.binary(max_size=60))
def test_any_address_of_a_peer_asks_for_an_endpoint_or_for_nothing(number: int, body: bytes) -> None:
    found = asked_endpoint(Address(number, body))
    if found is not None:
        assert TYPES[found.kind] == number


@pytest.mark.parametrize(
    "body", [b"", b"?baud=9600", b"/dev/x?speed=1", b"/dev/x?baud=1&baud=2", b"a b", b"\xff"]
)
def test_a_malformed_serial_address_asks_for_nothing(body: bytes) -> None:
    assert asked_endpoint(Address(SERIAL, body)) is None
