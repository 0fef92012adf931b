"""What two ockamlite nodes say to each other about the datagrams between them.

A heartbeat is a routing message with an empty onward route, which every other node of Ockam passes over.
Its payload, numbers big-endian:

    "ockamlite" | version 1 | kind u8 | token 8 | proof 8 | offer 8 | size u16 | room u32 | zeros …

An ASK carries a fresh token. The ANSWER repeats it, so that the asker knows the other end receives; it
says how long the datagram was that held the question, and how many bytes the answerer can take before it
has been asked again. Each side offers what the other shows as proof from then on. A BYE ends the link; it
must show the proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from ockamlite.cbor import bytes_head
from ockamlite.errors import DecodeError
from ockamlite.routing.codec import decode_message

TOKEN_BYTES: Final = 8
NO_PROOF: Final = bytes(TOKEN_BYTES)

_LAYOUT: Final = Struct(">9sBB8s8s8sHI")
_MAGIC: Final = b"ockamlite"
_VERSION: Final = 1
_HEAD: Final = b"\x83\x80\x80"
LEAST_BYTES: Final = len(_HEAD) + 2 + _LAYOUT.size
"""The length of a heartbeat without zeros."""


class Kind(IntEnum):
    """What a heartbeat is."""

    ASK = 1
    ANSWER = 2
    BYE = 3


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One heartbeat."""

    kind: Kind
    token: bytes
    proof: bytes = NO_PROOF
    """What the receiver has offered to this address, which proves that it arrived."""
    offer: bytes = NO_PROOF
    """What the receiver shall show."""
    size: int = 0
    """ANSWER: the length of the datagram that held the question."""
    room: int = 0
    """ANSWER: bytes that may be under way to the answerer, heads of datagrams included."""


def encode_heartbeat(heartbeat: Heartbeat, *, zeros: int = 0) -> bytes:
    """The routing message, with ``zeros`` bytes of padding."""
    payload = _LAYOUT.pack(
        _MAGIC,
        _VERSION,
        heartbeat.kind,
        heartbeat.token,
        heartbeat.proof,
        heartbeat.offer,
        heartbeat.size,
        heartbeat.room,
    )
    return _HEAD + bytes_head(len(payload) + zeros) + payload + bytes(zeros)


def decode_heartbeat(message: bytes | memoryview) -> Heartbeat | None:
    """The heartbeat, or None if the message is none, or one of a later version.

    Raises:
        DecodeError: not a routing message.
    """
    if message[1:2] != b"\x80":  # quick for all others
        return None
    onward, _, payload = decode_message(message)
    if onward or len(payload) < _LAYOUT.size or payload[: len(_MAGIC)] != _MAGIC:
        return None
    _, version, kind, token, proof, offer, size, room = _LAYOUT.unpack_from(payload)
    if version != _VERSION:
        return None
    try:
        return Heartbeat(Kind(kind), token, proof, offer, size, room)
    except ValueError as error:
        raise DecodeError(f"heartbeat of kind {kind}") from error


def answer_to(ask: Heartbeat, size: int, *, offer: bytes, room: int) -> Heartbeat:
    """The answer to a question that came in a datagram of ``size`` bytes."""
    return Heartbeat(Kind.ANSWER, ask.token, NO_PROOF, offer, size, room)
