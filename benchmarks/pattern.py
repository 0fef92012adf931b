"""The bytes of a bulk transfer: a known sequence that is compared, not hashed.

A hash costs more than the tunnel leaves to the load generator; comparing with memory that is in the cache
does not. The sequence repeats after a length that no block or message size divides, so a block that was
lost, repeated, moved or changed does not match.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

from benchmarks.errors import WrongBytesError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

BLOCK = 256 * 1024
_PERIOD = BLOCK + 4099
_SEQUENCE = random.Random("ockamlite").randbytes(_PERIOD)
_TWICE = memoryview(_SEQUENCE * 2)
_END = bytes(BLOCK)
COUNT = struct.Struct(">Q")


def block(number: int) -> memoryview:
    """The block with this number, from 0."""
    start = number * BLOCK % _PERIOD
    return _TWICE[start : start + BLOCK]


def send(connection: socket.socket, more: Callable[[int], bool]) -> int:
    """Send blocks while `more(number)`, then the end mark; returns the number of blocks."""
    number = 0
    while more(number):
        connection.sendall(block(number))
        number += 1
    connection.sendall(_END)
    return number


def receive(connection: socket.socket) -> int:
    """Receive and compare blocks up to the end mark; returns their number. WrongBytesError if they differ."""
    # A bytearray compares with a memoryview by memcmp; the other way round Python compares item by item.
    buffer, number = bytearray(BLOCK), 0
    view = memoryview(buffer)
    while True:
        have = 0
        while have < BLOCK:
            count = connection.recv_into(view[have:])
            if not count:
                raise WrongBytesError(f"the stream ended in block {number}, after {have} bytes of it")
            have += count
        if buffer == block(number):
            number += 1
        elif buffer == _END:
            return number
        else:
            raise WrongBytesError(f"block {number} differs from what was sent")
