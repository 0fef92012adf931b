"""Which address an answer leaves from, where a machine has many."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest

from transports.udp_socket import DatagramSocket, Remote, answers_from


@pytest.mark.parametrize(
    ("asked", "interface", "expected"),
    [
        ("2001:db8::7", 3, 0),  # routed: the system knows the interface better
        ("::1", 1, 0),
        ("fe80::1", 3, 3),  # means nothing without its interface
        ("febf::1", 4, 4),
    ],
)
def test_an_ipv6_address_is_answered_from(asked: str, interface: int, expected: int) -> None:
    address = ipaddress.IPv6Address(asked).packed
    assert answers_from(address, interface) == struct.pack("=16sI", address, expected)


def test_a_group_that_was_asked_does_not_answer_itself() -> None:
    assert answers_from(ipaddress.IPv6Address("ff02::1").packed, 3) == b""


@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.9"])
def test_a_socket_bound_to_everything_tells_what_was_asked_and_sends_from_there(
    asked: str,
) -> None:
    everywhere = DatagramSocket(socket.AF_INET, bind=("0.0.0.0", 0))
    asking = DatagramSocket(socket.AF_INET, dial=(asked, everywhere.port))
    buffer = memoryview(bytearray(100))
    assert asking.send(b"question", None)
    size, remote = everywhere.receive(buffer)
    assert (bytes(buffer[:size]), remote.address) == (b"question", ("127.0.0.1", asking.port))
    assert everywhere.send(b"answer", remote)
    assert asking.receive(buffer) == (6, Remote((asked, everywhere.port)))
    for each in (everywhere, asking):
        each.close()
        each.close()


def test_a_socket_bound_to_one_address_need_not_tell() -> None:
    here = DatagramSocket(socket.AF_INET, bind=("127.0.0.1", 0))
    asking = DatagramSocket(socket.AF_INET, dial=("127.0.0.1", here.port))
    asking.send(b"question", None)
    assert here.receive(memoryview(bytearray(100)))[1].ours == b""
    with pytest.raises(BlockingIOError):
        here.receive(memoryview(bytearray(100)))
    here.close()
    asking.close()
