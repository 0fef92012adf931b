"""Requests and responses of Ockam's node services, as bytes of a real node.

Nothing here speaks to those services yet; their messages are what the codecs have to carry.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ockamlite import bare, cbor

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "api.json").read_text())
CASES = [*VECTORS["requests"], *VECTORS["responses"]]


@pytest.mark.parametrize("case", CASES)
def test_each_header_is_read_and_written_as_the_same_bytes(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case.get("cbor", ""))
    if "message" in case:
        message = bytes.fromhex(case["message"])
        size, at = bare.decode_uint(message, 0)
        assert at + size == len(message)
        assert bare.encode_uint(size) == message[:at]
        body = message[at:]
    header, end = cbor.decode_at(body, 0)
    assert isinstance(header, dict)
    assert cbor.encode(header) == body[:end]  # type: ignore[arg-type]
    assert ("message" in case) <= (header.get(4) is (end < len(body)))  # has a body, and it is there
