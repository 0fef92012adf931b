"""Credentials: an authority states attributes of somebody else, for a time.

CredentialAndPurposeKey = [Credential, PurposeKeyAttestation]    the issuer's credential key
Credential              = [data, signature]                      data: VersionedData of
CredentialData          = [subject / null, subject_latest_change_hash / null,
                           [schema, {* bytes => bytes}], created_at, expires_at]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from ockamlite import cbor
from ockamlite.errors import DecodeError, UsageError
from ockamlite.identities import fields
from ockamlite.identities.change_history import Identity
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.fields import DataType
from ockamlite.identities.purpose_key import Purpose, PurposeKeyAttestation
from ockamlite.limits import LIMITS
from ockamlite.vault.primitives import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ockamlite.cbor import Encodable, Value
    from ockamlite.identities.identifier import Identifier
    from ockamlite.vault.keys import Signature
    from ockamlite.vault.vault import Signer

Attributes: TypeAlias = Mapping[bytes, bytes]

_WHAT: Final = "credential"
PROJECT_SCHEMA: Final = 1
"""The number that Ockam's projects use; nobody looks at it."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as received; proves nothing without the issuer's purpose key."""

    data: bytes = field(repr=False)
    """What is signed."""
    signature: Signature = field(repr=False)
    subject: Identifier | None
    subject_latest_change_hash: bytes | None = field(repr=False)
    """The subject's latest change when the credential was issued."""
    schema: int
    attributes: Attributes = field(repr=False)
    created_at: int
    """Seconds since 1970."""
    expires_at: int
    """Seconds since 1970; the last second in which it is valid."""

    @classmethod
    def decode(cls, data: bytes) -> Credential:
        """Read a credential; bytes behind it are ignored, as Rust does.

        Raises:
            DecodeError: malformed, or too many or too long attributes.
            IdentityError: another version or type of data.
        """
        return cls.from_cbor(cbor.decode(data, trailing=True))

    @classmethod
    def from_cbor(cls, value: Value) -> Credential:
        """The same, of CBOR that was decoded already."""
        parts = fields.slots(value, 2, _WHAT)
        data = fields.byte_string(parts[0], _WHAT)
        body = fields.slots(fields.unwrap(data, DataType.CREDENTIAL, _WHAT), 5, _WHAT)
        schema, entries = fields.slots(body[2], 2, _WHAT)[:2]
        return cls(
            data=data,
            signature=fields.signature(parts[1], _WHAT),
            subject=None if body[0] is None else fields.identifier(body[0], _WHAT),
            subject_latest_change_hash=None if body[1] is None else fields.fixed(body[1], 32, _WHAT),
            schema=fields.unsigned(schema, _WHAT),
            attributes=_read_attributes(entries),
            created_at=fields.unsigned(body[3], _WHAT),
            expires_at=fields.unsigned(body[4], _WHAT),
        )

    def to_cbor(self) -> list[Encodable]:
        """As it is sent."""
        return [self.data, fields.encode_tagged(self.signature)]

    @property
    def digest(self) -> bytes:
        """What the signature is over."""
        return sha256(self.data)


def _read_attributes(value: Value) -> Attributes:
    if type(value) is not dict:
        raise DecodeError("attributes are not a map")
    if len(value) > LIMITS.attributes:
        raise DecodeError(f"{len(value)} attributes are too many")
    entries: dict[bytes, bytes] = {}
    for key, text in value.items():
        if type(key) is not bytes or type(text) is not bytes:
            raise DecodeError("an attribute is not a pair of byte strings")
        if max(len(key), len(text)) > LIMITS.attribute_bytes:
            raise DecodeError("an attribute is too long")
        entries[key] = text
    return MappingProxyType(entries)


@dataclass(frozen=True, slots=True)
class VerifiedCredential:
    """What a credential proved."""

    authority: Identifier
    """Who says so."""
    subject: Identifier
    """Of whom."""
    attributes: Attributes
    expires_at: int
    """Seconds since 1970."""

    def is_valid(self, now: int) -> bool:
        """True until it expires."""
        return now <= self.expires_at


@dataclass(frozen=True, slots=True)
class CredentialAndPurposeKey:
    """A credential with the attestation of the key that signed it: what is presented."""

    credential: Credential
    attestation: PurposeKeyAttestation

    @classmethod
    def decode(cls, data: bytes) -> CredentialAndPurposeKey:
        """Read both; bytes behind them are ignored, as Rust does.

        Raises:
            DecodeError: malformed, or too many or too long attributes.
            IdentityError: another version or type of data.
        """
        return cls.from_cbor(cbor.decode(data, trailing=True))

    @classmethod
    def from_cbor(cls, value: Value) -> CredentialAndPurposeKey:
        """The same, of CBOR that was decoded already."""
        credential, attestation = fields.slots(value, 2, _WHAT)[:2]
        return cls(Credential.from_cbor(credential), PurposeKeyAttestation.from_cbor(attestation))

    def to_cbor(self) -> list[Encodable]:
        """As it is sent."""
        return [self.credential.to_cbor(), self.attestation.to_cbor()]

    @property
    def encoded(self) -> bytes:
        """The bytes that are sent and stored."""
        return cbor.encode(self.to_cbor())

    def verify(
        self, authorities: Iterable[Identity], now: int, *, subject: Identity | Identifier | None = None
    ) -> VerifiedCredential:
        """Check that one of ``authorities`` says this, at the time ``now``.

        Args:
            authorities: those whose word counts, with the latest that is known of their histories.
            now: seconds since 1970.
            subject: whom it must be about. With an identity, the change that the credential names must
                be in its history, which it is not if an old history is presented.

        Raises:
            IdentityError: the first rule that does not hold.
        """
        credential, attestation = self.credential, self.attestation
        authority = next((a for a in authorities if a.identifier == attestation.subject), None)
        if authority is None:
            raise IdentityError(_WHAT, Fault.UNKNOWN_AUTHORITY)
        attestation.verify(authority, Purpose.CREDENTIALS, now)
        if credential.subject is None:
            raise IdentityError(_WHAT, Fault.NO_SUBJECT)
        expected, hashes = _expected(subject)
        named = credential.subject_latest_change_hash
        for holds, fault in (
            (expected is None or credential.subject == expected, Fault.OTHER_SUBJECT),
            (hashes is None or named is None or named in hashes, Fault.UNKNOWN_CHANGE),
            (credential.created_at >= attestation.created_at, Fault.OLDER_THAN_ISSUER),
            (credential.expires_at <= attestation.expires_at, Fault.OUTLIVES_ISSUER),
            (credential.created_at <= now + LIMITS.clock_skew_s, Fault.CREATED_AHEAD),
            (credential.expires_at >= now, Fault.EXPIRED),
        ):
            if not holds:
                raise IdentityError(_WHAT, fault)
        if not attestation.key.verifies(credential.signature, credential.digest):
            raise IdentityError(_WHAT, Fault.SIGNATURE)
        return VerifiedCredential(
            authority.identifier, credential.subject, credential.attributes, credential.expires_at
        )


def _expected(subject: Identity | Identifier | None) -> tuple[Identifier | None, set[bytes] | None]:
    """Whom a credential must be about, and the changes it may name if they are known."""
    if isinstance(subject, Identity):
        return subject.identifier, {change.hash for change in subject.changes}
    return subject, None


def issue_credential(
    signer: Signer,
    attestation: PurposeKeyAttestation,
    subject: Identity,
    attributes: Attributes,
    *,
    created_at: int,
    expires_at: int,
    schema: int = PROJECT_SCHEMA,
) -> CredentialAndPurposeKey:
    """State ``attributes`` of ``subject``. Times in seconds since 1970.

    Args:
        signer: our credential key.
        attestation: says that it is ours.
        subject: whom it is about, with the latest that is known of its history.
        attributes: what is stated; text as UTF-8.
        created_at: from when on.
        expires_at: until when; shortened to the life of the credential key, else nobody accepts it.
        schema: says what the attributes mean.

    Raises:
        UsageError: too many or too long attributes.
    """
    if len(attributes) > LIMITS.attributes or any(
        max(len(key), len(value)) > LIMITS.attribute_bytes for key, value in attributes.items()
    ):
        raise UsageError("too many attributes, or too long ones")
    expires_at = min(expires_at, attestation.expires_at)
    # Rust's order is that of the bytes; CBOR's own canonical order would put short keys first.
    ordered = dict(sorted(attributes.items()))
    entries: dict[bytes, Encodable] = dict(ordered)
    body: list[Encodable] = [
        subject.identifier.digest,
        subject.latest.hash,
        [schema, entries],
        created_at,
        expires_at,
    ]
    data = fields.wrap(DataType.CREDENTIAL, body)
    credential = Credential(
        data=data,
        signature=signer.sign(sha256(data)),
        subject=subject.identifier,
        subject_latest_change_hash=subject.latest.hash,
        schema=schema,
        attributes=MappingProxyType(ordered),
        created_at=created_at,
        expires_at=expires_at,
    )
    return CredentialAndPurposeKey(credential, attestation)
