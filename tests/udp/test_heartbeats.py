"""What two nodes say about the datagrams between them, as kept in ``tests/vectors/heartbeats.json``.

A change of these bytes is a new version of heartbeats. Run this file to write the vectors anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ockamlite.cbor import bytes_head
from ockamlite.errors import DecodeError
from ockamlite.wire.datagrams import Dialect, decode_piece, split
from ockamlite.wire.heartbeats import Heartbeat, Kind, answer_to, decode_heartbeat, encode_heartbeat

FILE = Path(__file__).parents[1] / "vectors" / "heartbeats.json"
TOKEN, OURS, THEIRS = (bytes(range(first, first + 8)) for first in (0x10, 0x20, 0x30))
NUMBER = 0x1234
FIRST_ASK = Heartbeat(Kind.ASK, TOKEN, offer=OURS)
SAID = (
    ("the first question, padded to 501 bytes", FIRST_ASK, 444),
    ("its answer", answer_to(FIRST_ASK, 501, offer=THEIRS, room=1_048_576), 0),
    ("a later question, which shows what the answer offered", Heartbeat(Kind.ASK, TOKEN, THEIRS, OURS), 15),
    ("the end", Heartbeat(Kind.BYE, THEIRS, THEIRS), 0),
)


def vectors() -> dict[str, Any]:
    said = []
    for name, heartbeat, zeros in SAID:
        message = encode_heartbeat(heartbeat, zeros=zeros)
        a, b = (next(split(message, NUMBER, dialect, 600)) for dialect in Dialect)
        said.append(
            {
                "name": name,
                "kind": heartbeat.kind.name,
                "token": heartbeat.token.hex(),
                "proof": heartbeat.proof.hex(),
                "offer": heartbeat.offer.hex(),
                "size": heartbeat.size,
                "room": heartbeat.room,
                "zeros": zeros,
                "message": message.hex(),
                "datagram_a": a.hex(),
                "datagram_b": b.hex(),
            }
        )
    return {"version": 1, "routing_number": NUMBER, "heartbeats": said}


def test_the_vectors_are_what_the_code_makes() -> None:
    assert json.loads(FILE.read_text()) == vectors()


@pytest.mark.parametrize("number", range(len(SAID)))
def test_a_heartbeat_is_read_as_it_was_written(number: int) -> None:
    vector = json.loads(FILE.read_text())["heartbeats"][number]
    token, proof, offer = (bytes.fromhex(vector[field]) for field in ("token", "proof", "offer"))
    expected = Heartbeat(Kind[vector["kind"]], token, proof, offer, vector["size"], vector["room"])
    assert decode_heartbeat(bytes.fromhex(vector["message"])) == expected
    for dialect in Dialect:
        piece = decode_piece(bytes.fromhex(vector[f"datagram_{dialect.value}"]))
        assert (piece.dialect, piece.number) == (dialect, NUMBER)
        assert decode_heartbeat(piece.data) == expected


def test_the_first_question_fills_a_small_datagram_and_its_answer_is_shorter() -> None:
    first, answer = (bytes.fromhex(vector["datagram_b"]) for vector in vectors()["heartbeats"][:2])
    assert len(first) == 501
    assert len(answer) < 90


def test_what_is_no_heartbeat_of_this_version_is_passed_over() -> None:
    message = bytearray(encode_heartbeat(FIRST_ASK))
    at = message.index(b"ockamlite")
    for change, value in ((at, 0x4F), (at + 9, 2)):
        other = bytearray(message)
        other[change] = value
        assert decode_heartbeat(bytes(other)) is None, "another word, another version"
    for payload in (b"", b"ockamlite", bytes(message[at:-1])):
        assert decode_heartbeat(b"\x83\x80\x80" + bytes_head(len(payload)) + payload) is None
    assert decode_heartbeat(b"\x83\x81\x82\x00\x41a\x80" + bytes(message[3:])) is None, "it goes to a worker"


def test_a_kind_that_does_not_exist_is_an_error() -> None:
    message = bytearray(encode_heartbeat(FIRST_ASK))
    message[message.index(b"ockamlite") + 10] = 9
    with pytest.raises(DecodeError, match="kind 9"):
        decode_heartbeat(bytes(message))


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=2) + "\n")
