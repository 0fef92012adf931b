"""Header compression: the routes of a message are sent once and then named by one octet. No I/O.

A message begins with a reference to its head, which is all in front of the payload's own CBOR head:

    00iiiiii                          head i
    01iiiiii | length: varint | head  head i, from now on
    10000000                          none: what follows is the message itself

The payload's CBOR head follows from its length. The writer alone decides which index to use again, the
reader does as told: both tables are equal at the same place of the stream. Both begin empty with each
session.
"""

from __future__ import annotations

from typing import Final

from ockamlite.bare import decode_uint, encode_uint
from ockamlite.cbor import bytes_head, decode_at
from ockamlite.errors import DecodeError

TABLE_HEADS: Final = 64
HEAD_BYTES: Final = 512
"""Longer heads are not remembered: they are no routes that repeat."""
_DEFINE: Final = 0x40
_LITERAL: Final = 0x80
LITERAL: Final = bytes((_LITERAL,))
MOST_PREFIX_BYTES: Final = 3 + HEAD_BYTES
"""The longest reference."""


def split_head(head: bytes, payload_bytes: int) -> bytes | None:
    """What of ``head`` has to be told, or None if the message can only be sent as it is."""
    tail = bytes_head(payload_bytes)
    if head.endswith(tail) and len(head) - len(tail) <= HEAD_BYTES:
        return head[: -len(tail)]
    return None


def onward_route(head: bytes) -> bytes:
    """The bytes of the onward route that a message begins with; none if it begins with something else."""
    try:
        _, end = decode_at(head, 1)
    except DecodeError:
        return b""
    return head[1:end]


class HeadWriter:
    """The sending half: which index stands for which head."""

    __slots__ = ("_indices",)

    def __init__(self) -> None:
        self._indices: dict[bytes, int] = {}  # the least recently used first

    def reference(self, head: bytes) -> bytes:
        """What to write in front of a payload whose head is ``head``; defines it if it is new."""
        index = self._indices.pop(head, None)
        if index is not None:
            self._indices[head] = index
            return bytes((index,))
        if len(self._indices) < TABLE_HEADS:
            index = len(self._indices)
        else:
            index = self._indices.pop(next(iter(self._indices)))
        self._indices[head] = index
        return b"".join((bytes((_DEFINE | index,)), encode_uint(len(head)), head))


class HeadReader:
    """The receiving half."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: list[bytes | None] = [None] * TABLE_HEADS

    def define(self, content: bytes) -> tuple[bytes | None, int]:
        """Read the reference that ``content`` begins with.

        Returns:
            The head (None: the message is not compressed) and where the payload begins.

        Raises:
            DecodeError: no reference, or one to a head that was never told.
        """
        first = content[0] if content else 0xFF
        if first < _DEFINE:
            head = self._heads[first]
            if head is None:
                raise DecodeError(f"head {first} was never told")
            return head, 1
        if first == _LITERAL:
            return None, 1
        if first > _LITERAL:
            raise DecodeError("a message begins with a reference to its head")
        length, at = decode_uint(content, 1)
        if length > HEAD_BYTES or at + length > len(content):
            raise DecodeError(f"head of {length} bytes is too long or ends early")
        head = content[at : at + length]
        self._heads[first & 0x3F] = head
        return head, at + length
