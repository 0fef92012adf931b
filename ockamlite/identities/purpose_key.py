"""Purpose keys: an identity attests that a further key is its own, for one purpose and for a time.

PurposeKeyAttestation = [data, signature]            data: VersionedData of
AttestationData       = [subject, subject_latest_change_hash, key, created_at, expires_at]
key                   = [0, [bytes32]] X25519, secure channels / [1, [PublicKey]] credentials
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from ockamlite import cbor
from ockamlite.errors import DecodeError
from ockamlite.identities import fields
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.fields import DataType
from ockamlite.limits import LIMITS
from ockamlite.vault.keys import KeyKind, PublicKey
from ockamlite.vault.primitives import sha256

if TYPE_CHECKING:
    from ockamlite.cbor import Encodable, Value
    from ockamlite.identities.change_history import Identity
    from ockamlite.identities.identifier import Identifier
    from ockamlite.vault.keys import Signature
    from ockamlite.vault.vault import Signer

_WHAT: Final = "attestation"


class Purpose(Enum):
    """What a purpose key is for."""

    SECURE_CHANNEL = "secure-channel"
    CREDENTIALS = "credentials"


@dataclass(frozen=True, slots=True)
class PurposeKeyAttestation:
    """An attestation as received; nothing is proved before :meth:`verify`."""

    data: bytes = field(repr=False)
    """What is signed."""
    signature: Signature = field(repr=False)
    subject: Identifier
    """The identity that the key belongs to, which also signs."""
    subject_latest_change_hash: bytes = field(repr=False)
    key: PublicKey
    """X25519 for secure channels, a signing key for credentials."""
    created_at: int
    """Seconds since 1970."""
    expires_at: int
    """Seconds since 1970; the last second in which it is valid."""

    @classmethod
    def decode(cls, data: bytes) -> PurposeKeyAttestation:
        """Read an attestation; bytes behind it are ignored, as Rust does.

        Raises:
            DecodeError: malformed.
            IdentityError: another version or type of data.
        """
        return cls.from_cbor(cbor.decode(data, trailing=True))

    @classmethod
    def from_cbor(cls, value: Value) -> PurposeKeyAttestation:
        """The same, of CBOR that was decoded already."""
        parts = fields.slots(value, 2, _WHAT)
        data = fields.byte_string(parts[0], _WHAT)
        body = fields.slots(fields.unwrap(data, DataType.ATTESTATION, _WHAT), 5, _WHAT)
        return cls(
            data=data,
            signature=fields.signature(parts[1], _WHAT),
            subject=fields.identifier(body[0], _WHAT),
            subject_latest_change_hash=fields.fixed(body[1], 32, _WHAT),
            key=_read_key(body[2]),
            created_at=fields.unsigned(body[3], _WHAT),
            expires_at=fields.unsigned(body[4], _WHAT),
        )

    def to_cbor(self) -> list[Encodable]:
        """As it is sent."""
        return [self.data, fields.encode_tagged(self.signature)]

    @property
    def encoded(self) -> bytes:
        """The bytes that are sent and stored."""
        return cbor.encode(self.to_cbor())

    @property
    def digest(self) -> bytes:
        """What the signature is over."""
        return sha256(self.data)

    @property
    def purpose(self) -> Purpose:
        """What the key is for."""
        return Purpose.SECURE_CHANNEL if self.key.kind is KeyKind.X25519 else Purpose.CREDENTIALS

    def verify(self, identity: Identity, purpose: Purpose, now: int) -> None:
        """Check that ``identity`` attests the key, for ``purpose``, at the time ``now``.

        Args:
            identity: the subject, as far as its history is known.
            purpose: what the key is to be used for.
            now: seconds since 1970.

        Raises:
            IdentityError: the first rule that does not hold.
        """
        latest = identity.latest
        for holds, fault in (
            (self.subject == identity.identifier, Fault.OTHER_SUBJECT),
            (self.subject_latest_change_hash == latest.hash, Fault.NOT_LATEST_CHANGE),
            (self.expires_at <= latest.valid_until, Fault.OUTLIVES_ISSUER),
            (self.created_at >= latest.valid_from, Fault.OLDER_THAN_ISSUER),
            (self.created_at <= now + LIMITS.clock_skew_s, Fault.CREATED_AHEAD),
            (self.expires_at >= now, Fault.EXPIRED),
            (self.purpose is purpose, Fault.OTHER_PURPOSE),
        ):
            if not holds:
                raise IdentityError(_WHAT, fault)
        if not latest.key.verifies(self.signature, self.digest):
            raise IdentityError(_WHAT, Fault.SIGNATURE)


def _read_key(value: Value) -> PublicKey:
    match fields.variant(value, _WHAT):
        case 0, [data, *_]:
            return PublicKey(KeyKind.X25519, fields.fixed(data, KeyKind.X25519.public_bytes, _WHAT))
        case 1, [key, *_]:
            return fields.public_key(key, _WHAT)
        case _:
            raise DecodeError(f"{_WHAT} of an unknown kind of key")


def attest(
    identity: Identity, signer: Signer, key: PublicKey, *, created_at: int, expires_at: int
) -> PurposeKeyAttestation:
    """Attest that ``key`` belongs to ``identity``. Times in seconds since 1970.

    Args:
        identity: ours, in its latest state.
        signer: its latest key.
        key: X25519 for secure channels, else a key that signs credentials.
        created_at: from when on.
        expires_at: until when; shortened to the validity of the identity's key, else nobody accepts it.
    """
    expires_at = min(expires_at, identity.latest.valid_until)
    tagged: Encodable = (
        [0, [key.data]] if key.kind is KeyKind.X25519 else [1, [fields.encode_tagged(key)]]
    )  # fmt: skip
    latest = identity.latest.hash
    data = fields.wrap(
        DataType.ATTESTATION, [identity.identifier.digest, latest, tagged, created_at, expires_at]
    )
    return PurposeKeyAttestation(
        data=data,
        signature=signer.sign(sha256(data)),
        subject=identity.identifier,
        subject_latest_change_hash=latest,
        key=key,
        created_at=created_at,
        expires_at=expires_at,
    )
