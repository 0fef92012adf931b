"""The pieces that changes, attestations and credentials are made of, in CBOR.

    VersionedData = [1, data_type, bytes]
    PublicKey     = [0, [bytes32]] Ed25519 / [1, [bytes65]] P-256
    Signature     = [0, [bytes64]] Ed25519 / [1, [bytes64]] P-256

Reading is as tolerant as a Rust peer: further slots and bytes behind an item are ignored. What is
signed is kept as it came and never encoded again.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from ockamlite import cbor
from ockamlite.errors import DecodeError
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.identifier import Identifier
from ockamlite.vault.keys import SIGNATURE_BYTES, KeyKind, PublicKey, Signature

if TYPE_CHECKING:
    from ockamlite.cbor import Encodable, Value

VERSION: Final = 1
MAX_TIME: Final = 2**64 - 1
_SIGNING_KINDS: Final = (KeyKind.ED25519, KeyKind.P256)


class DataType(IntEnum):
    """What signed data is; the only thing that tells a change from a credential."""

    CHANGE = 1
    ATTESTATION = 2
    CREDENTIAL = 3


def slots(value: Value, least: int, what: str) -> list[Value]:
    """An array of at least ``least`` entries.

    Raises:
        DecodeError: something else.
    """
    if type(value) is not list or len(value) < least:
        raise DecodeError(f"{what} is not an array of {least}")
    return value


def byte_string(value: Value, what: str) -> bytes:
    """A byte string.

    Raises:
        DecodeError: something else.
    """
    if type(value) is not bytes:
        raise DecodeError(f"{what} is not a byte string")
    return value


def fixed(value: Value, size: int, what: str) -> bytes:
    """A byte string of ``size`` bytes.

    Raises:
        DecodeError: something else.
    """
    data = byte_string(value, what)
    if len(data) != size:
        raise DecodeError(f"{what} has {len(data)} bytes instead of {size}")
    return data


def unsigned(value: Value, what: str) -> int:
    """An unsigned integer of up to 64 bits, such as a time in seconds.

    Raises:
        DecodeError: something else.
    """
    if type(value) is not int or not 0 <= value <= MAX_TIME:
        raise DecodeError(f"{what} is not an unsigned integer")
    return value


def boolean(value: Value, what: str) -> bool:
    """True or false.

    Raises:
        DecodeError: something else.
    """
    if type(value) is not bool:
        raise DecodeError(f"{what} is neither true nor false")
    return value


def identifier(value: Value, what: str) -> Identifier:
    """An identifier.

    Raises:
        DecodeError: something else.
    """
    return Identifier(fixed(value, 32, what))


def variant(value: Value, what: str) -> tuple[int, list[Value]]:
    """An enum: the number of the variant and its fields, one at least.

    Raises:
        DecodeError: something else.
    """
    pair = slots(value, 2, what)
    if len(pair) != 2:
        raise DecodeError(f"{what} is not an array of 2")
    return unsigned(pair[0], what), slots(pair[1], 1, what)


def _signing_kind(number: int, what: str) -> KeyKind:
    if number >= len(_SIGNING_KINDS):
        raise DecodeError(f"{what} is of the unknown kind {number}")
    return _SIGNING_KINDS[number]


def public_key(value: Value, what: str) -> PublicKey:
    """The public key of a signing key.

    Raises:
        DecodeError: something else.
    """
    number, fields = variant(value, what)
    kind = _signing_kind(number, what)
    return PublicKey(kind, fixed(fields[0], kind.public_bytes, what))


def signature(value: Value, what: str) -> Signature:
    """A signature.

    Raises:
        DecodeError: something else.
    """
    number, fields = variant(value, what)
    return Signature(_signing_kind(number, what), fixed(fields[0], SIGNATURE_BYTES, what))


def encode_tagged(value: PublicKey | Signature) -> list[Encodable]:
    """A public key or signature as CBOR."""
    return [_SIGNING_KINDS.index(value.kind), [value.data]]


def wrap(data_type: DataType, body: Encodable) -> bytes:
    """The VersionedData that is hashed and signed."""
    return cbor.encode([VERSION, int(data_type), cbor.encode(body)])


def unwrap(data: bytes, data_type: DataType, what: str) -> Value:
    """The body of a VersionedData.

    Raises:
        DecodeError: not CBOR of that shape.
        IdentityError: another version or type.
    """
    version, found, body = slots(cbor.decode(data, trailing=True), 3, what)[:3]
    if unsigned(version, what) != VERSION:
        raise IdentityError(what, Fault.VERSION)
    if unsigned(found, what) != data_type:
        raise IdentityError(what, Fault.DATA_TYPE)
    return cbor.decode(byte_string(body, what), trailing=True)
