"""Ockam's MultiAddr: ``/dnsaddr/host/tcp/4000/secure/api/service/outlet``, as text and as bytes.

In bytes each part is the varint of its protocol's code and a value: 4 or 16 bytes of an IP address, 2 of
a port (big-endian), else a varint length and UTF-8.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import Final

from ockamlite.bare import decode_uint, encode_str, encode_uint
from ockamlite.errors import DecodeError, UsageError
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import TextError, ip6_text, is_utf8


class Protocol(enum.Enum):
    """What a part says; the values are the codes on the wire."""

    IP4 = 4
    IP6 = 41
    TCP = 6
    UDP = 273
    DNSADDR = 56
    SERVICE = 62526
    NODE = 72526
    PROJECT = 82526
    SPACE = 92526
    SECURE = 99526
    WORKER = 102526

    @property
    def text(self) -> str:
        """The name in texts."""
        return self.name.lower()


_BY_TEXT: Final = {protocol.text: protocol for protocol in Protocol}
_BY_CODE: Final = {protocol.value: protocol for protocol in Protocol}
HOSTS: Final = frozenset({Protocol.IP4, Protocol.IP6, Protocol.DNSADDR})


@dataclass(frozen=True, slots=True)
class Part:
    """One protocol and its value, in the text form that is printed.

    Raises:
        UsageError: the protocol has no such value.
    """

    protocol: Protocol
    value: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _canonical(self.protocol, self.value))

    def __str__(self) -> str:
        return f"/{self.protocol.text}/{self.value}"


@dataclass(frozen=True, slots=True)
class MultiAddr:
    """A sequence of parts, possibly empty."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


def parse_multiaddr(text: str) -> MultiAddr:
    """Read the text form; the slash in front may be missing, as in Rust.

    Raises:
        TextError: an unknown protocol, or a value that it does not have.
    """
    return MultiAddr(tuple(part for part, _ in scan_multiaddr(text)))


def to_bytes(address: MultiAddr) -> bytes:
    """The binary form."""
    out = bytearray()
    for part in address.parts:
        out += encode_uint(part.protocol.value)
        match part.protocol:
            case Protocol.IP4 | Protocol.IP6:
                out += ipaddress.ip_address(part.value).packed
            case Protocol.TCP | Protocol.UDP:
                out += int(part.value).to_bytes(2, "big")
            case _:
                out += encode_str(part.value)
    return bytes(out)


def from_bytes(data: bytes) -> MultiAddr:
    """Read the binary form.

    Raises:
        DecodeError: it ends early, names an unknown protocol, is not the shortest form, holds a value
            that its text could not show, or more parts than a route may have.
    """
    parts: list[Part] = []
    at = 0
    while at < len(data):
        if len(parts) >= LIMITS.route_hops:
            raise DecodeError(f"MultiAddr has more than {LIMITS.route_hops} parts")
        part, at = _part_at(data, at)
        parts.append(part)
    return MultiAddr(tuple(parts))


def scan_multiaddr(text: str) -> list[tuple[Part, int]]:
    """Read the text form; return the parts and the columns where they begin, counted from 1.

    Raises:
        TextError: as for :func:`parse_multiaddr`.
    """
    if not text:
        return []
    found: list[tuple[Part, int]] = []
    column = 1 + text.startswith("/")
    pieces = text[column - 1 :].split("/")
    for name, value in zip(pieces[::2], [*pieces[1::2], ""], strict=False):
        number = sum(part.protocol not in HOSTS for part, _ in found) + 1
        protocol = _BY_TEXT.get(name)
        if protocol is None:
            known = ", ".join(sorted(_BY_TEXT))
            raise TextError(f"unknown protocol {name!r}; known: {known}", column, hop=number)
        if len(found) >= LIMITS.route_hops:
            raise TextError(f"more than {LIMITS.route_hops} parts", column, hop=number)
        try:
            found.append((Part(protocol, value), column))
        except UsageError as error:
            raise TextError(str(error), column + len(name) + 1, hop=number) from error
        column += len(name) + len(value) + 2
    return found


def _part_at(data: bytes, at: int) -> tuple[Part, int]:
    code, at = _short_uint(data, at)
    protocol = _BY_CODE.get(code)
    match protocol:
        case None:
            raise DecodeError(f"MultiAddr protocol {code} is unknown")
        case Protocol.IP4:
            size = 4
        case Protocol.IP6:
            size = 16
        case Protocol.TCP | Protocol.UDP:
            size = 2
        case _:
            size, at = _short_uint(data, at)
    body = data[at : at + size]
    if len(body) < size:
        raise DecodeError(f"MultiAddr value of {size} bytes ends early")
    match protocol:
        case Protocol.IP4 | Protocol.IP6:
            text = str(ipaddress.ip_address(body))
        case Protocol.TCP | Protocol.UDP:
            text = str(int.from_bytes(body, "big"))
        case _:
            try:
                text = body.decode()
            except UnicodeDecodeError as error:
                raise DecodeError("MultiAddr value is not UTF-8") from error
    try:
        return Part(protocol, text), at + size
    except UsageError as error:
        raise DecodeError(str(error)) from error


def _short_uint(data: bytes, at: int) -> tuple[int, int]:
    number, end = decode_uint(data, at)
    if end - at != len(encode_uint(number)):
        raise DecodeError("MultiAddr varint is not the shortest")
    return number, end


def _canonical(protocol: Protocol, value: str) -> str:
    """The value as printed."""
    match protocol:
        case Protocol.IP4:
            try:
                return str(ipaddress.IPv4Address(value))
            except ValueError as error:
                raise UsageError(f"{value!r} is no IPv4 address") from error
        case Protocol.IP6:
            try:
                address = ipaddress.IPv6Address(value)
            except ValueError as error:
                raise UsageError(f"{value!r} is no IPv6 address") from error
            if address.scope_id is not None:
                raise UsageError(f"{value!r}: a MultiAddr has no room for a network interface")
            return ip6_text(address)
        case Protocol.TCP | Protocol.UDP:
            if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 0xFFFF):
                raise UsageError(f"{value!r} is no port from 0 to 65535")
            return str(int(value))
        case _:
            if "/" in value:
                raise UsageError(f"{value!r} holds a '/', which a MultiAddr cannot show")
            if not is_utf8(value):
                raise UsageError("a MultiAddr value is not UTF-8")
            if len(value.encode()) > LIMITS.address_bytes:
                raise UsageError(f"a MultiAddr value has more than {LIMITS.address_bytes} bytes")
            return value
