"""Addresses: a transport type and a byte string (Ockam routing, "Address")."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from ockamlite.errors import UsageError

LOCAL: Final = 0
TCP: Final = 1
UDP: Final = 2
WEBSOCKET: Final = 3
BLE: Final = 4
UNIX: Final = 5
SERIAL: Final = 200
"""Not a number of Ockam's, which end far below; other implementations cannot read it."""

_ALPHABET: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8
"""A letter for each byte."""


class Address(NamedTuple):
    """Where a message goes next: a worker of this node, or a link to another.

    A tuple, so that looking one up in the router's table costs no Python call.
    """

    transport: int
    """Transport type, 0 to 255; 0 is a worker of the local node."""
    body: bytes
    """The name; UTF-8 by convention, any bytes by right."""

    @classmethod
    def local(cls, name: str | bytes) -> Address:
        """The address of a worker of this node."""
        return cls(LOCAL, _utf8(name) if isinstance(name, str) else name)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read Ockam's text form: ``name`` (local) or ``TYPE#name``.

        Raises:
            UsageError: more than one ``#``, a type that is not 0 to 255, or a text without UTF-8.
        """
        kind, mark, body = text.partition("#")
        if not mark:
            return cls.local(text)
        if "#" in body:
            raise UsageError(f"address {text!r} has more than one '#'")
        if not (kind.isascii() and kind.isdigit() and len(kind) <= 3 and int(kind) <= 255):
            raise UsageError(f"address {text!r}: transport type {kind!r} is not a number from 0 to 255")
        return cls(int(kind), _utf8(body))

    @property
    def is_local(self) -> bool:
        """True if the address names a worker of the local node."""
        return self.transport == LOCAL

    @property
    def name(self) -> str:
        """The body as text; bytes that are not UTF-8 are shown escaped."""
        return self.body.decode(errors="backslashreplace")

    def __str__(self) -> str:
        """Ockam's text form, ``TYPE#name``."""
        return f"{self.transport}#{self.name}"


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # lone surrogates, as in an argument that was not UTF-8
        raise UsageError(f"address {text!r} is not UTF-8") from error


def random_address() -> Address:
    """A fresh local address nobody can guess: 12 characters, 60 bits.

    Each message repeats the addresses of its route, so ours are short; Ockam's have 32 characters.
    """
    return Address(LOCAL, os.urandom(12).translate(_ALPHABET))
