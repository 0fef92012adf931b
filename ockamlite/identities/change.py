"""One change of an identity: a new key, signed by itself and by the key before it.

Change     = [data, signature, ? previous_signature]
data       = VersionedData of ChangeData
ChangeData = [previous_change / null, PublicKey, revoke_all_purpose_keys, valid_from, valid_until]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ockamlite.identities import fields
from ockamlite.identities.fields import DataType
from ockamlite.vault.primitives import sha256

if TYPE_CHECKING:
    from ockamlite.cbor import Encodable, Value
    from ockamlite.vault.keys import PublicKey, Signature
    from ockamlite.vault.vault import Signer

_WHAT: Final = "change history"
LIFETIME_S: Final = 315_360_000
"""Ten years, as in Ockam."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change as received; equal to another if their hashes are."""

    hash: bytes
    """SHA-256 of ``data``: names the change."""
    data: bytes = field(compare=False, repr=False)
    signature: Signature = field(compare=False, repr=False)
    previous_signature: Signature | None = field(compare=False, repr=False)
    previous_change: bytes | None = field(compare=False, repr=False)
    key: PublicKey = field(compare=False)
    revoke_all_purpose_keys: bool = field(compare=False)
    """Carried for peers; a change of key invalidates earlier purpose keys with or without it."""
    valid_from: int = field(compare=False)
    """Seconds since 1970: attestations by this key are not created earlier."""
    valid_until: int = field(compare=False)
    """Seconds since 1970: attestations by this key do not last longer."""

    @classmethod
    def from_cbor(cls, value: Value) -> Change:
        """Read a change without checking its signatures.

        Raises:
            DecodeError: not of the shape above.
            IdentityError: another version or type of data.
        """
        parts = fields.slots(value, 2, _WHAT)
        data = fields.byte_string(parts[0], _WHAT)
        body = fields.slots(fields.unwrap(data, DataType.CHANGE, _WHAT), 5, _WHAT)
        return cls(
            hash=sha256(data),
            data=data,
            signature=fields.signature(parts[1], _WHAT),
            previous_signature=fields.signature(parts[2], _WHAT)
            if len(parts) > 2 and parts[2] is not None
            else None,
            previous_change=None if body[0] is None else fields.fixed(body[0], 32, _WHAT),
            key=fields.public_key(body[1], _WHAT),
            revoke_all_purpose_keys=fields.boolean(body[2], _WHAT),
            valid_from=fields.unsigned(body[3], _WHAT),
            valid_until=fields.unsigned(body[4], _WHAT),
        )

    def to_cbor(self) -> list[Encodable]:
        """As it is sent."""
        parts: list[Encodable] = [self.data, fields.encode_tagged(self.signature)]
        if self.previous_signature is not None:
            parts.append(fields.encode_tagged(self.previous_signature))
        return parts


def make_change(
    signer: Signer,
    *,
    valid_from: int,
    valid_until: int,
    previous: Change | None = None,
    previous_signer: Signer | None = None,
    revoke: bool = False,
) -> Change:
    """Make a first change, or with ``previous`` and its signer a further one. Times in seconds."""
    data = fields.wrap(
        DataType.CHANGE,
        [
            previous.hash if previous is not None else None,
            fields.encode_tagged(signer.public_key),
            revoke,
            valid_from,
            valid_until,
        ],
    )
    digest = sha256(data)
    return Change(
        hash=digest,
        data=data,
        signature=signer.sign(digest),
        previous_signature=previous_signer.sign(digest) if previous_signer is not None else None,
        previous_change=previous.hash if previous is not None else None,
        key=signer.public_key,
        revoke_all_purpose_keys=revoke,
        valid_from=valid_from,
        valid_until=valid_until,
    )
