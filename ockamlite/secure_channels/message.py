"""What is inside a packet: an application message, new credentials, or the end. No I/O.

    [ [0, [[onward_route, return_route, payload]]],          padding ]   application message
    [ [1, [[change history, [credential and purpose key]]]], padding ]   refresh
    [ [2, []],                                               padding ]   close

Reading accepts what Rust peers accept; writing is what minicbor would write. An application message
is written as prefix, payload and :data:`NO_PADDING` (or :func:`padding_for`), joined once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, assert_never

from ockamlite.cbor import bytes_head, decode_at
from ockamlite.errors import DecodeError
from ockamlite.limits import LIMITS
from ockamlite.routing.codec import (
    array_at,
    array_head,
    bytes_at,
    decode_route_at,
    encode_routes,
    skip_slots,
)

if TYPE_CHECKING:
    from ockamlite.routing.codec import Data, RouteMemory
    from ockamlite.routing.route import Route

NO_PADDING: Final = b"\x40"
_APPLICATION: Final = b"\x82\x82\x00\x81\x83"
_REFRESH: Final = b"\x82\x82\x01\x81\x82"
_CLOSE: Final = b"\x82\x82\x02\x80"


class Application(NamedTuple):
    """A routed message for the peer's node."""

    onward: Route
    return_route: Route
    payload: Data


class Refresh(NamedTuple):
    """The peer presents its credentials anew; both fields are CBOR for the identity codecs."""

    history: bytes
    credentials: tuple[bytes, ...]


class Close(NamedTuple):
    """The peer closed the channel."""


ChannelMessage: TypeAlias = Application | Refresh | Close


# -- writing ---------------------------------------------------------------------------------------


def application_prefix(onward: Route, return_route: Route, payload_length: int) -> bytes:
    """Everything of an application message in front of its payload."""
    return _APPLICATION + encode_routes(onward, return_route) + bytes_head(payload_length)


def padding_for(length: int) -> bytes:
    """The padding that hides the length of a message in a bucket.

    Buckets are 64, 256, 1024, 4096 and 16,384 bytes, then multiples of the last.

    Args:
        length: of the message so far, prefix and payload.
    """
    bucket = 64
    while True:
        size = bucket - length
        for head in (1, 2, 3):
            zeros = size - head
            if zeros >= 0 and len(bytes_head(zeros)) == head:
                return bytes_head(zeros) + bytes(zeros)
        # Too small, or one of the few sizes that no shortest head reaches.
        bucket = bucket * 4 if bucket < 16_384 else (max(length, bucket) // 16_384 + 1) * 16_384


def encode_message(message: ChannelMessage, *, pad: bool = False) -> bytes:
    """Encode any message of a channel; with ``pad``, hide its length."""
    match message:
        case Application(onward, return_route, payload):
            body = application_prefix(onward, return_route, len(payload)) + payload
        case Refresh(history, credentials):
            body = b"".join((_REFRESH, history, array_head(len(credentials)), *credentials))
        case Close():
            body = _CLOSE
        case _:
            assert_never(message)
    return body + (padding_for(len(body)) if pad else NO_PADDING)


# -- reading ---------------------------------------------------------------------------------------


def decode_application_head(
    plaintext: bytes, memory: RouteMemory | None = None
) -> tuple[Route, Route, int, int] | None:
    """Read an application message up to its payload.

    Args:
        plaintext: what a packet held.
        memory: the routes of earlier messages of the same channel.

    Returns:
        Onward route, return route, where the payload starts and ends; None for any other message.

    Raises:
        DecodeError: not a message of a channel, or routes beyond ``LIMITS``.
    """
    found = memory.find(plaintext) if memory is not None else None
    if found is not None:
        onward, return_route, at = found
    elif plaintext.startswith(_APPLICATION):
        onward, at = decode_route_at(plaintext, len(_APPLICATION))
        return_route, at = decode_route_at(plaintext, at)
        if memory is not None:
            memory.keep(plaintext[:at], onward, return_route)
    else:
        return _any_application_head(plaintext)
    start, end = bytes_at(plaintext, at)
    if plaintext[end : end + 1] != NO_PADDING:
        bytes_at(plaintext, end)
    return onward, return_route, start, end


def decode_message(plaintext: bytes) -> ChannelMessage:
    """Read any message of a channel.

    Raises:
        DecodeError: not a message of a channel, or one beyond ``LIMITS``.
    """
    head = decode_application_head(plaintext)
    if head is not None:
        onward, return_route, start, end = head
        return Application(onward, return_route, memoryview(plaintext)[start:end])
    outer, variant, fields, at = _envelope_at(plaintext)
    if variant == 2:
        _check_end(plaintext, skip_slots(plaintext, at, fields), outer)
        return Close()
    slots, at = array_at(plaintext, at)
    history, at = _array_bytes(plaintext, at)
    count, at = array_at(plaintext, at)
    credentials: list[bytes] = []
    while count:
        if count < 0 and plaintext[at : at + 1] == b"\xff":
            at += 1
            break
        credential, at = _array_bytes(plaintext, at)
        credentials.append(credential)
        if len(credentials) > LIMITS.credentials:
            raise DecodeError(f"more than {LIMITS.credentials} credentials")
        count -= 1
    at = skip_slots(plaintext, at, _left(slots, 2))
    _check_end(plaintext, skip_slots(plaintext, at, _left(fields, 1)), outer)
    return Refresh(history, tuple(credentials))


def _any_application_head(plaintext: bytes) -> tuple[Route, Route, int, int] | None:
    """Read an application message in any encoding that Rust accepts."""
    outer, variant, fields, at = _envelope_at(plaintext)
    if variant != 0:
        return None
    slots, at = array_at(plaintext, at)
    onward, at = decode_route_at(plaintext, at)
    return_route, at = decode_route_at(plaintext, at)
    start, end = bytes_at(plaintext, at)
    at = skip_slots(plaintext, end, _left(slots, 3))
    _check_end(plaintext, skip_slots(plaintext, at, _left(fields, 1)), outer)
    return onward, return_route, start, end


def _envelope_at(plaintext: bytes) -> tuple[int, int, int, int]:
    """Slots of the outer array, variant, slots of its fields, and where they begin."""
    outer, at = array_at(plaintext, 0)
    pair, at = array_at(plaintext, at)
    if pair != 2:
        raise DecodeError("a message is a variant and its fields")
    variant, at = decode_at(plaintext, at, depth=0)
    if type(variant) is not int or variant not in (0, 1, 2):
        raise DecodeError("a channel has no such message")
    fields, at = array_at(plaintext, at)
    if variant != 2:
        _left(fields, 1)
    return outer, variant, fields, at


def _left(count: int, read: int) -> int:
    """How many slots of an array of ``count`` (-1: until a break) are behind those ``read``."""
    if count < 0:
        return count
    if count < read:
        raise DecodeError(f"array of {count} slots, {read} are needed")
    return count - read


def _check_end(plaintext: bytes, at: int, outer: int) -> None:
    """Check the padding and the slots behind it."""
    _, end = bytes_at(plaintext, at)
    skip_slots(plaintext, end, _left(outer, 2))


def _array_bytes(plaintext: bytes, at: int) -> tuple[bytes, int]:
    """The bytes of an array, whose meaning is not ours to know."""
    array_at(plaintext, at)
    item = plaintext[at : at + LIMITS.handshake_bytes]
    _, end = decode_at(item, 0)
    return item[:end], at + end
