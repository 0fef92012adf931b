"""Routes and routing messages as CBOR: strict, bounded, and quick for the routes that repeat.

A message on a TCP link is ``[onward_route, return_route, payload, tracing_context?]``, a route
``[[transport type, body], …]``. Reading accepts what Rust peers accept: indefinite arrays, longer
integers than needed, slots unknown to us. Writing is what minicbor would write.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

from ockamlite.cbor import bytes_head, decode_at
from ockamlite.errors import DecodeError
from ockamlite.limits import LIMITS
from ockamlite.routing.address import Address
from ockamlite.routing.route import EMPTY_ROUTE, Route

Data: TypeAlias = bytes | bytearray | memoryview

_BREAK: Final = 0xFF
_ADDRESS_BYTES: Final = LIMITS.address_bytes + LIMITS.skipped_bytes
_tuple_new: Final = tuple.__new__


# -- writing ---------------------------------------------------------------------------------------


_CACHED_HOPS: Final = 8
"""Routes up to this length are kept encoded; a peer that makes up long ones must not fill our memory."""


def encode_route(route: Route) -> bytes:
    """The route as CBOR."""
    parts = [array_head(len(route))]
    for transport, body in route:
        kind = bytes((transport,)) if transport < 24 else bytes((0x18, transport))
        parts += (b"\x82", kind, bytes_head(len(body)), body)
    return b"".join(parts)


def encode_routes(onward: Route, return_route: Route) -> bytes:
    """Both routes of a message, one behind the other; those in use are kept."""
    if len(onward) + len(return_route) <= _CACHED_HOPS:
        return _encode_short_routes(onward, return_route)
    return encode_route(onward) + encode_route(return_route)


@lru_cache(maxsize=512)
def _encode_short_routes(onward: Route, return_route: Route) -> bytes:
    return encode_route(onward) + encode_route(return_route)


def encode_message_head(onward: Route, return_route: Route) -> bytes:
    """Everything of a message in front of its payload, whose :func:`~ockamlite.cbor.bytes_head` is next.

    We send no tracing context: nothing follows the payload.
    """
    return b"\x83" + encode_routes(onward, return_route)


def array_head(count: int) -> bytes:
    """The bytes in front of an array of ``count`` slots."""
    if count < 24:
        return bytes((0x80 | count,))
    return bytes((0x98, count)) if count < 0x100 else b"\x99" + count.to_bytes(2, "big")


# -- the pieces of arrays --------------------------------------------------------------------------


def array_at(data: Data, at: int) -> tuple[int, int]:
    """Read the head of an array: its slots (-1: until a break) and the position behind it.

    Raises:
        DecodeError: something else stands there.
    """
    first = data[at] if at < len(data) else 0
    if 0x80 <= first < 0x98:
        return first - 0x80, at + 1
    if first == 0x9F:
        return -1, at + 1
    if 0x98 <= first <= 0x9B:
        end = at + 1 + (1 << (first - 0x98))
        if end <= len(data):
            return int.from_bytes(data[at + 1 : end], "big"), end
    raise DecodeError("a CBOR array is missing or ends early")


def skip_slots(data: Data, at: int, count: int) -> int:
    """Pass over the last ``count`` slots of an array (-1: up to its break); return what is behind.

    Raises:
        DecodeError: the slots end early or take more than ``LIMITS.skipped_bytes``.
    """
    if count == 0:
        return at
    window = bytes(data[at : at + LIMITS.skipped_bytes])
    here = 0
    while count:
        if count < 0 and here < len(window) and window[here] == _BREAK:
            return at + here + 1
        _, here = decode_at(window, here)
        count -= 1
    return at + here


def bytes_at(data: Data, at: int) -> tuple[int, int]:
    """Where the byte string at ``at`` begins and ends, its head left out.

    Raises:
        DecodeError: no byte string, or one that ends early.
    """
    first = data[at] if at < len(data) else 0
    if 0x40 <= first < 0x58:
        start = at + 1
        end = start + first - 0x40
    elif 0x58 <= first <= 0x5B:
        start = at + 1 + (1 << (first - 0x58))
        end = start + int.from_bytes(data[at + 1 : start], "big")
    else:
        raise DecodeError("a CBOR byte string is missing")
    if end > len(data):
        raise DecodeError("a CBOR byte string ends early")
    return start, end


# -- reading ---------------------------------------------------------------------------------------


def decode_route_at(data: Data, at: int) -> tuple[Route, int]:
    """Read the route at ``at``; return it and the position behind it.

    Raises:
        DecodeError: no route, more than ``LIMITS.route_hops`` hops, or an address of more than
            ``LIMITS.address_bytes``.
    """
    count, at = array_at(data, at)
    if count == 0:
        return EMPTY_ROUTE, at
    if count > LIMITS.route_hops:
        raise DecodeError(f"route of {count} hops, allowed are {LIMITS.route_hops}")
    size = len(data)
    hops: list[Address] = []
    while count:
        if at + 3 < size and data[at] == 0x82 and (transport := data[at + 1]) < 24:
            # An address as everybody writes it.
            length = data[at + 2] - 0x40
            at += 3
            if length == 24:
                length = data[at]
                at += 1
            elif not 0 <= length < 24:
                hop, at = _address_at(data, at - 3)
                hops.append(hop)
                count -= 1
                continue
            end = at + length
            if end > size:
                raise DecodeError("an address ends early")
            hops.append(_tuple_new(Address, (transport, bytes(data[at:end]))))
            at = end
        elif count < 0 and at < size and data[at] == _BREAK:
            at += 1
            break
        else:
            hop, at = _address_at(data, at)
            hops.append(hop)
        count -= 1
        if count < -LIMITS.route_hops - 1:
            raise DecodeError(f"route of more than {LIMITS.route_hops} hops")
    return Route(hops), at


def _address_at(data: Data, at: int) -> tuple[Address, int]:
    """Read an address in any encoding that Rust accepts."""
    window = bytes(data[at : at + _ADDRESS_BYTES])
    count, here = array_at(window, 0)
    if count in (0, 1):
        raise DecodeError("an address has a type and a body")
    transport, here = decode_at(window, here, depth=0)
    if type(transport) is not int or not 0 <= transport <= 255:
        raise DecodeError("an address's transport type is a number from 0 to 255")
    start, end = bytes_at(window, here)
    if end - start > LIMITS.address_bytes:
        raise DecodeError(f"address of {end - start} bytes, allowed are {LIMITS.address_bytes}")
    here = skip_slots(window, end, count - 2 if count > 0 else -1)
    return Address(transport, window[start:end]), at + here


class RouteMemory:
    """The pairs of routes lately read, found by the bytes in front of a payload.

    The messages of a flow repeat their routes, so most are known before anything is decoded. A head
    is a run of complete CBOR items: bytes that begin with a known head can mean nothing else.
    """

    __slots__ = ("_heads", "_lengths")

    MOST_HEADS: Final = 128
    MOST_LENGTHS: Final = 8
    LONGEST_BYTES: Final = 512

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[Route, Route, int]] = {}
        self._lengths: list[int] = []

    def find(self, data: Data) -> tuple[Route, Route, int] | None:
        """Onward route, return route and the length of the head that ``data`` begins with."""
        for length in self._lengths:
            found = self._heads.get(bytes(data[:length]))
            if found is not None:
                return found
        return None

    def keep(self, head: bytes, onward: Route, return_route: Route) -> None:
        """Remember what ``head`` says."""
        if len(head) > self.LONGEST_BYTES:
            return
        new_length = len(head) not in self._lengths
        if len(self._heads) >= self.MOST_HEADS or (new_length and len(self._lengths) >= self.MOST_LENGTHS):
            self._heads.clear()
            self._lengths.clear()
            new_length = True
        self._heads[head] = (onward, return_route, len(head))
        if new_length:
            self._lengths.insert(0, len(head))


def decode_message(data: Data, memory: RouteMemory | None = None) -> tuple[Route, Route, Data]:
    """Read a message: onward route, return route and payload, a slice of ``data``.

    Bytes behind the message are ignored, as in Rust.

    Args:
        data: the message; pass a view of a large one.
        memory: the routes of earlier messages of the same link.

    Raises:
        DecodeError: not a message, or routes beyond ``LIMITS``.
    """
    found = memory.find(data) if memory is not None else None
    if found is not None:
        onward, return_route, at = found
    else:
        count, at = array_at(data, 0)
        if 0 <= count < 3:
            raise DecodeError(f"message of {count} slots")
        onward, at = decode_route_at(data, at)
        return_route, at = decode_route_at(data, at)
        if memory is not None:
            memory.keep(bytes(data[:at]), onward, return_route)
    start, end = bytes_at(data, at)
    first = data[0]
    if first != 0x83 and not (first == 0x84 and bytes(data[end : end + 3]) == b"\x62{}"):
        _check_tracing(data, end)
    return onward, return_route, data[start:end]


def _check_tracing(data: Data, at: int) -> None:
    """Check the slots behind a payload, the first of which is a tracing context: text or null."""
    count, _ = array_at(data, 0)
    if count == 3 or (count < 0 and at < len(data) and data[at] == _BREAK):
        return
    tracing, end = decode_at(bytes(data[at : at + LIMITS.skipped_bytes]), 0)
    if tracing is not None and not isinstance(tracing, str):
        raise DecodeError("a tracing context is text")
    skip_slots(data, at + end, count - 4 if count > 0 else -1)
