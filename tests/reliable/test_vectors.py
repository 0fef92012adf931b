"""The bytes of a reliable link, as kept in ``tests/vectors/links.json``: a change of them is a new version.

Run this file to write the vectors anew.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from ockamlite.cbor import bytes_head
from ockamlite.errors import DecodeError
from ockamlite.routing.codec import encode_message_head
from ockamlite.routing.route import Route
from ockamlite.wire.reliable import frames
from ockamlite.wire.reliable.compression import TABLE_HEADS, HeadReader, HeadWriter
from ockamlite.wire.reliable.engine import ReliableLink
from ockamlite.wire.reliable.events import MessageReceived, Parameters
from ockamlite.wire.reliable.frames import Hello
from ockamlite.wire.reliable.profile import BLE

FILE = Path(__file__).parents[1] / "vectors" / "links.json"
A, B = 0x01020304, 0xA0B0C0D0


def hellos() -> list[dict[str, Any]]:
    made = []
    for answer, session, echo, parameters in (
        (False, A, 0, Parameters(1024, 16, 1 << 20)),
        (True, B, A, Parameters(490, 32, 1 << 16)),
    ):
        frame = Hello(frames.VERSION, session, echo, parameters).encode(answer=answer)
        made.append(
            {
                "answer": answer,
                "session": session,
                "echo": echo,
                "payload_bytes": parameters.payload_bytes,
                "window": parameters.window,
                "message_bytes": parameters.message_bytes,
                "frame": frame.hex(),
            }
        )
    return made


def checked() -> list[dict[str, Any]]:
    seed = frames.session_seed(A, B)
    data = frames.DATA << 5
    made: list[dict[str, Any]] = []
    for name, octet, ack, seq, payload in (
        ("data, a whole message", data | frames.FIRST | frames.LAST, 0, 0, b"\x00k"),
        ("data, first fragment in slot 5", data | frames.FIRST | 5, 255, 256, b"\x80\x01first"),
        ("data, numbers beyond 16 bits", data | frames.LAST | 7, 70_000, 65_536, b"last"),
    ):
        frame = frames.encode_data(octet, ack, seq, payload, seed)
        made.append({"name": name, "ack": ack, "seq": seq, "payload": payload.hex(), "frame": frame.hex()})
    for name, octet, ack, received in (
        ("ack", frames.ACK << 5, 7, 0),
        ("ack after damage, with the bit map", frames.ACK << 5 | frames.DAMAGED, 300, 0b1010_0000_0010),
        ("ping", frames.PING << 5, 300, 0),
        ("pong", frames.PONG << 5, 300, 1 << 31),
        ("bye", frames.BYE << 5, 1, 0),
    ):
        frame = frames.encode_control(octet, ack, seed, received)
        made.append({"name": name, "ack": ack, "received": received, "frame": frame.hex()})
    return made


def heads() -> list[dict[str, str]]:
    writer = HeadWriter()
    one = encode_message_head(Route.of("abcdefghijkl"), Route.of())
    made = [
        {"head": head.hex(), "reference": writer.reference(head).hex()}
        for head in (one, one, b"\x83\x80\x80")
    ]
    for number in range(TABLE_HEADS):
        writer.reference(number.to_bytes(2, "big"))
    made.append({"head": one.hex(), "reference after 64 others": writer.reference(one).hex()})
    return made


def conversation() -> list[dict[str, str]]:
    """Two ends with 15-byte payloads: HELLOs, a message of one frame, one of three beside another."""
    a, b = ReliableLink(BLE, session=A, now=0.0), ReliableLink(BLE, session=B, now=0.0)
    made = []
    for number in range(6):
        if number == 3:
            for flow, payload in (("x", b"k"), ("y", b"0123456789" * 2), ("x", b"l"), ("x", b"m" * 14)):
                head = encode_message_head(Route.of(flow), Route.of()) + bytes_head(len(payload))
                a.send(head, payload, 0.0)
        for name, sender, receiver in (("a", a, b), ("b", b, a)):
            for frame in sender.frames_to_send(0.0, 4096):
                told = receiver.receive(frame, 0.0)
                made.append({"from": name, "frame": frame.hex()})
                for event in told:
                    if isinstance(event, MessageReceived):
                        made[-1]["message"] = event.message.hex()
    return made


def vectors() -> dict[str, Any]:
    return {
        "version": frames.VERSION,
        "sessions": {
            "a": A,
            "b": B,
            "seed a to b": frames.session_seed(A, B),
            "seed b to a": frames.session_seed(B, A),
        },
        "hello": hellos(),
        "checked frames from a to b": checked(),
        "heads": heads(),
        "conversation": conversation(),
    }


def test_the_bytes_are_those_of_the_vectors() -> None:
    assert vectors() == json.loads(FILE.read_text())


@pytest.mark.parametrize("at", range(frames.HELLO_BYTES))
def test_a_hello_with_a_wrong_byte_is_not_read(at: int) -> None:
    frame = bytearray.fromhex(hellos()[0]["frame"])
    assert Hello.decode(bytes(frame)).session == A
    frame[at] ^= 0x40
    with pytest.raises(DecodeError):
        Hello.decode(bytes(frame))


def test_a_hello_of_another_version_may_be_longer() -> None:
    body = bytes.fromhex(hellos()[0]["frame"])[:-4]
    body = body[:1] + b"\x02" + body[2:] + b"more"
    hello = Hello.decode(body + crc32(body).to_bytes(4, "big"))
    assert (hello.version, hello.session, hello.parameters) == (2, A, None)


@pytest.mark.parametrize(
    "reference", ["", "00", "3f", "81", "ff", "40", "4005616263", "40810461", "40ffffffffffffffffffff"]
)
def test_a_reference_to_nothing_is_refused(reference: str) -> None:
    with pytest.raises(DecodeError):
        HeadReader().define(bytes.fromhex(reference))


def test_reader_and_writer_agree_whatever_comes_and_goes() -> None:
    chance = random.Random(3)
    writer, reader = HeadWriter(), HeadReader()
    known = 0
    for _ in range(5000):
        head = b"head %d" % min(chance.getrandbits(8), chance.getrandbits(8))
        reference = writer.reference(head)
        known += len(reference) == 1
        assert reader.define(reference + b"payload") == (head, len(reference))
    assert known > 1000


def test_the_head_used_longest_ago_gives_way() -> None:
    writer = HeadWriter()
    for number in range(TABLE_HEADS):
        writer.reference(b"%d" % number)
    assert writer.reference(b"0") == b"\x00"
    assert writer.reference(b"new")[0] == 0x41
    assert writer.reference(b"0") == b"\x00"
    assert len(writer.reference(b"1")) > 1


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=2) + "\n")
