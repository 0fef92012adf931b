"""The CBOR that Ockam's peers write, decoded strictly (RFC 8949; minicbor conventions).

Only unsigned and negative integers, byte and text strings, arrays, maps, booleans and null exist
here. Tags, floats and indefinite strings are refused, as Rust does; so are duplicate keys. Depth, counts
and the bytes that remain bound what a peer can make us build. Only this module imports cbor2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias, cast

import cbor2

from ockamlite.errors import DecodeError
from ockamlite.limits import LIMITS

Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[int | bytes | str, Value] | None"
Encodable: TypeAlias = (
    "int | bytes | str | bool | list[Encodable] | tuple[Encodable, ...] | dict[int, Encodable]"
    " | dict[bytes, Encodable] | dict[str, Encodable] | None"
)

_BREAK = object()


def encode(value: Encodable) -> bytes:
    """Encode as minicbor does: shortest integers, definite lengths, map entries in the order given.

    A caller that mirrors a Rust struct leaves its trailing ``None`` out.
    """
    return cbor2.dumps(value)


@lru_cache(maxsize=1024)
def bytes_head(length: int) -> bytes:
    """The bytes in front of a byte string of ``length`` bytes."""
    if length < 24:
        return bytes((0x40 | length,))
    if length < 0x100:
        return bytes((0x58, length))
    if length < 0x10000:
        return b"\x59" + length.to_bytes(2, "big")
    return b"\x5a" + length.to_bytes(4, "big")


def decode(data: bytes | memoryview, *, depth: int = LIMITS.cbor_depth, trailing: bool = False) -> Value:
    """Decode one item.

    Args:
        data: the encoding.
        depth: how many arrays and maps may be nested.
        trailing: accept and ignore bytes behind the item, as Rust does everywhere.

    Raises:
        DecodeError: not CBOR, or CBOR that no peer of ours may send.
    """
    value, end = decode_at(data, 0, depth=depth)
    if end != len(data) and not trailing:
        raise DecodeError(f"{len(data) - end} bytes behind the CBOR item")
    return value


def decode_at(data: bytes | memoryview, start: int, *, depth: int = LIMITS.cbor_depth) -> tuple[Value, int]:
    """Decode the item that begins at ``start``; return it and the position behind it.

    Raises:
        DecodeError: as for :func:`decode`.
    """
    value, end = _item(bytes(data), start, depth, [LIMITS.cbor_values])
    if value is _BREAK:
        raise DecodeError("CBOR break outside an array or map")
    return cast("Value", value), end


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Major type, argument (-1: indefinite) and the position behind the head."""
    if at >= len(data):
        raise DecodeError("CBOR ends early")
    first = data[at]
    major, info = first >> 5, first & 31
    at += 1
    if info < 24:
        return major, info, at
    if info < 28:
        size = 1 << (info - 24)
        if at + size > len(data):
            raise DecodeError("CBOR ends early")
        return major, int.from_bytes(data[at : at + size], "big"), at + size
    if info == 31:
        return major, -1, at
    raise DecodeError(f"CBOR head {first:#04x} is reserved")


def _item(data: bytes, at: int, depth: int, left: list[int]) -> tuple[object, int]:
    """Read an item; ``left`` holds how many values arrays and maps may still have in all."""
    major, argument, at = _head(data, at)
    match major:
        case 0 if argument >= 0:
            return argument, at
        case 1 if argument >= 0:
            return -1 - argument, at
        case 2 | 3 if argument >= 0:
            end = at + argument
            if end > len(data):
                raise DecodeError(f"CBOR string of {argument} bytes ends early")
            body = data[at:end]
            if major == 2:
                return body, end
            try:
                return body.decode(), end
            except UnicodeDecodeError as error:
                raise DecodeError("CBOR text is not UTF-8") from error
        case 4 | 5:
            if depth <= 0:
                raise DecodeError("CBOR is nested too deep")
            count = argument if major == 4 or argument < 0 else 2 * argument
            # Every entry takes a byte at least: a count beyond what is there is a lie.
            if count > len(data) - at or count > LIMITS.cbor_items * (major - 3):
                raise DecodeError(f"CBOR array or map of {argument} entries is too long")
            return _array(data, at, count, depth, left) if major == 4 else _map(data, at, count, depth, left)
        case 7 if argument in (20, 21) and data[at - 1] in (0xF4, 0xF5):
            return argument == 21, at
        case 7 if argument == 22 and data[at - 1] == 0xF6:
            return None, at
        case 7 if argument == -1:
            return _BREAK, at
        case 6:
            raise DecodeError("CBOR tags are not used here")
        case _:
            raise DecodeError(f"CBOR item {data[at - 1]:#04x} is not used here")


def _array(
    data: bytes, at: int, count: int, depth: int, left: list[int], most: int = LIMITS.cbor_items
) -> tuple[list[object], int]:
    items: list[object] = []
    while count < 0 or len(items) < count:
        item, at = _item(data, at, depth - 1, left)
        if item is _BREAK:
            if count < 0:
                break
            raise DecodeError("CBOR break inside a definite array")
        items.append(item)
        left[0] -= 1
        if len(items) > most or left[0] < 0:
            raise DecodeError("CBOR array or map is too long")
    return items, at


def _map(data: bytes, at: int, count: int, depth: int, left: list[int]) -> tuple[dict[object, object], int]:
    flat, at = _array(data, at, count, depth, left, 2 * LIMITS.cbor_items)
    if len(flat) % 2:
        raise DecodeError("CBOR map has a key without a value")
    entries: dict[object, object] = {}
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if type(key) not in (int, bytes, str):
            raise DecodeError("CBOR map key is neither a number nor a string")
        if key in entries:
            raise DecodeError("CBOR map key stands twice")
        entries[key] = value
    return entries, at
