"""W26: nesting without end in what a peer presents is refused, by whatever reads it, and nothing breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ockamlite import cbor
from ockamlite.errors import RemoteError
from ockamlite.identities.change_history import ChangeHistory
from ockamlite.identities.credential import Credential, CredentialAndPurposeKey
from ockamlite.identities.peer import verify_handshake_payload
from ockamlite.identities.purpose_key import PurposeKeyAttestation
from ockamlite.routing.codec import decode_message
from ockamlite.secure_channels import message as channel

if TYPE_CHECKING:
    from collections.abc import Callable

READERS: dict[str, Callable[[bytes], object]] = {
    "cbor": cbor.decode,
    "routing message": decode_message,
    "channel message": channel.decode_message,
    "change history": ChangeHistory.decode,
    "attestation": PurposeKeyAttestation.decode,
    "credential": Credential.decode,
    "credential and purpose key": CredentialAndPurposeKey.decode,
    "handshake payload": lambda data: verify_handshake_payload(data, bytes(32), 0, known=lambda _: None),
}
DEEP = 60_000
NESTS = {
    "arrays": b"\x81" * DEEP,
    "arrays without an end": b"\x9f" * DEEP,
    "maps": b"\xa1\x00" * (DEEP // 2),
    "maps without an end": b"\xbf\x00" * (DEEP // 2),
    "maps as keys": b"\xa1" * DEEP,
    "tags": b"\xc1" * DEEP,
    "strings without an end": b"\x5f" * DEEP,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("nest", NESTS)
def test_w26_nesting_without_end_is_refused(reader: str, nest: str) -> None:
    read: Any = READERS[reader]
    for before in (b"", b"\x83", b"\x83\x81\x82\x00\x41a\x80", b"\x00\x83", b"\x01\x82"):
        for after in (b"", b"\x00" * 100, b"\xff" * DEEP):
            with pytest.raises(RemoteError):
                read(before + NESTS[nest] + after)
