"""Portal messages as Rust writes and reads them, and what each end may do when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.errors import ProtocolError, RemoteError
from ockamlite.portals.protocol import (
    DISCONNECT,
    PING,
    PONG,
    RESET,
    Kind,
    MissingDataError,
    Portal,
    ResetError,
    decode,
    encode_payload_head,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "portal.json").read_text())


@pytest.mark.parametrize("case", VECTORS["decode"], ids=lambda case: case["name"])
def test_messages_are_read_as_rust_reads_them(case: dict[str, object]) -> None:
    data = bytes.fromhex(str(case["input"]))
    expected = case["decoded"]
    assert isinstance(expected, dict)
    if "error" in expected:
        with pytest.raises(RemoteError):
            decode(data)
        return
    kind, body, counter = decode(data)
    if isinstance(expected["ok"], str):
        assert kind.name == expected["ok"].upper()
    else:
        assert kind is Kind.PAYLOAD
        assert bytes(body).hex() == expected["ok"]["Payload"]
        assert counter == expected["ok"]["counter"]


def test_messages_are_written_as_rust_writes_them() -> None:
    written = {case["message"].partition(",")[0]: case["payload"] for case in VECTORS["encode"]}
    assert PING.hex() == written["Ping"]
    assert PONG.hex() == written["Pong"]
    assert DISCONNECT.hex() == written["Disconnect"]
    assert (encode_payload_head(5) + b"hello").hex() == written["Payload hello"]
    long = bytes((i * 7 + 3) % 256 for i in range(300))
    assert (encode_payload_head(300) + long).hex() == written["Payload of 300"]


@given(st.binary(max_size=2000))
def test_a_payload_comes_back(data: bytes) -> None:
    kind, body, counter = decode(encode_payload_head(len(data)) + data)
    assert (kind, bytes(body), counter) == (Kind.PAYLOAD, data, None)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_a_remote_error(data: bytes) -> None:
    portal = Portal()
    portal.opened()
    try:
        portal.receive(data)
    except RemoteError:
        assert portal.received_bytes == 0


def opened() -> Portal:
    portal = Portal()
    portal.opened()
    return portal


def test_data_before_the_connection_is_there_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Portal().receive(encode_payload_head(1) + b"x")


def test_data_behind_the_peers_disconnect_is_refused() -> None:
    portal = opened()
    portal.receive(DISCONNECT)
    with pytest.raises(ProtocolError):
        portal.receive(encode_payload_head(1) + b"x")


def test_pings_and_pongs_in_a_running_connection_are_refused() -> None:
    for stray in (PING, PONG):
        with pytest.raises(ProtocolError):
            opened().receive(stray)


def test_a_connection_is_done_when_both_ends_have_finished() -> None:
    portal = opened()
    portal.receive(DISCONNECT)
    assert not portal.is_done
    portal.local_done = True
    assert portal.is_done


def test_an_end_with_an_error_is_none_that_could_be_taken_for_good() -> None:
    with pytest.raises(ResetError):
        opened().receive(RESET)
    finished = opened()
    finished.receive(DISCONNECT)
    with pytest.raises(ResetError):
        finished.receive(RESET)


def test_an_end_with_an_error_is_a_missed_packet_to_any_ockam_peer() -> None:
    kind, data, counter = decode(RESET)
    assert (kind, bytes(data), counter) == (Kind.PAYLOAD, b"", 0xFFFF)


def test_a_missing_packet_is_noticed_where_the_peer_counts() -> None:
    portal = opened()
    portal.receive(b"\x03\x01x\x01\x00\x00")
    portal.receive(b"\x03\x01x\x01\x01\x00")
    with pytest.raises(MissingDataError, match="packet 3 came instead of 2"):
        portal.receive(b"\x03\x01x\x01\x03\x00")
