"""Change histories: what an identity shows of itself, and the identity it proves to be.

A history is a chain. Its first change gives the identifier; each later one introduces a key, signed
by that key and by the one before. A ``ChangeHistory`` is read and nothing more; an ``Identity`` has
been verified, and only this module makes one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from ockamlite import cbor
from ockamlite.errors import DecodeError
from ockamlite.identities import fields
from ockamlite.identities.change import Change
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.identifier import Identifier
from ockamlite.limits import LIMITS
from ockamlite.vault.primitives import sha256

if TYPE_CHECKING:
    from ockamlite.cbor import Value

_WHAT: Final = "change history"


class Comparison(Enum):
    """What one history is beside another of the same identity."""

    EQUAL = "equal"
    OLDER = "older"
    NEWER = "newer"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class ChangeHistory:
    """A history that was read, but not verified."""

    changes: tuple[Change, ...]

    @classmethod
    def decode(cls, data: bytes) -> ChangeHistory:
        """Read a history; bytes behind it are ignored, as Rust does.

        Raises:
            DecodeError: malformed, or too many changes.
            IdentityError: another version or type of data.
        """
        return cls.from_cbor(cbor.decode(data, trailing=True))

    @classmethod
    def from_cbor(cls, value: Value) -> ChangeHistory:
        """The same, of CBOR that was decoded already."""
        changes = fields.slots(value, 0, _WHAT)
        if len(changes) > LIMITS.changes:
            raise DecodeError(f"{_WHAT} of {len(changes)} changes is too long")
        return cls(tuple(Change.from_cbor(change) for change in changes))

    @property
    def encoded(self) -> bytes:
        """The one encoding that is stored, sent and exported.

        What is signed stands in it as it came; slots and bytes that mean nothing do not.
        """
        return cbor.encode([change.to_cbor() for change in self.changes])

    def verify(self) -> Identity:
        """Check the chain, then the signatures; all that is cheap first.

        Raises:
            IdentityError: the rule that does not hold.
        """
        previous: Change | None = None
        for change in self.changes:
            _check_link(previous, change)
            previous = change
        if previous is None:
            raise IdentityError(_WHAT, Fault.NO_CHANGE)
        previous = None
        for change in self.changes:
            _check_signatures(previous, change)
            previous = change
        return Identity(Identifier(self.changes[0].hash), self.changes, self.encoded)


def _check_link(previous: Change | None, change: Change) -> None:
    if previous is None:
        if change.previous_change is not None:
            raise IdentityError(_WHAT, Fault.FIRST_HAS_PREDECESSOR)
        # Rust ignores it. Nobody makes one, and unsigned data has no place in a history.
        if change.previous_signature is not None:
            raise IdentityError(_WHAT, Fault.FIRST_HAS_PREVIOUS_SIGNATURE)
        return
    if change.previous_change != previous.hash:
        raise IdentityError(_WHAT, Fault.WRONG_PREDECESSOR)
    if change.valid_from < previous.valid_from:
        raise IdentityError(_WHAT, Fault.EARLIER_THAN_PREDECESSOR)
    if change.previous_signature is None:
        raise IdentityError(_WHAT, Fault.NO_PREVIOUS_SIGNATURE)


def _check_signatures(previous: Change | None, change: Change) -> None:
    if (
        previous is not None
        and change.previous_signature is not None
        and not previous.key.verifies(change.previous_signature, change.hash)
    ):
        raise IdentityError(_WHAT, Fault.PREVIOUS_SIGNATURE)
    if not change.key.verifies(change.signature, change.hash):
        raise IdentityError(_WHAT, Fault.SIGNATURE)


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A verified identity, public part. Equal to another if their change hashes are.

    Made by :meth:`ChangeHistory.verify`.
    """

    identifier: Identifier
    changes: tuple[Change, ...]
    encoded: bytes = field(compare=False)
    """The change history as it is sent and exported."""

    @property
    def latest(self) -> Change:
        """The change that introduced the current key."""
        return self.changes[-1]

    def compare(self, other: Identity) -> Comparison:
        """Whether this history is newer or older than ``other``, by the hashes of their changes."""
        if any(mine.hash != theirs.hash for mine, theirs in zip(self.changes, other.changes, strict=False)):
            return Comparison.CONFLICT
        if len(self.changes) == len(other.changes):
            return Comparison.EQUAL
        return Comparison.NEWER if len(self.changes) > len(other.changes) else Comparison.OLDER

    def check_not_behind(self, known: Identity | None) -> None:
        """Refuse a history that is older than, or contradicts, what is known.

        Raises:
            IdentityError: it does.
        """
        match self.compare(known) if known is not None else Comparison.NEWER:
            case Comparison.OLDER:
                raise IdentityError(_WHAT, Fault.OLDER_HISTORY)
            case Comparison.CONFLICT:
                raise IdentityError(_WHAT, Fault.CONFLICTING_HISTORY)
            case Comparison.EQUAL | Comparison.NEWER:
                return

    def __repr__(self) -> str:
        """Identifier and length."""
        return f"<Identity {self.identifier}, changes: {len(self.changes)}>"


class VerifiedHistories:
    """Histories verified before: the same bytes need no second check. Least recently used go first.

    Only saves time. Nothing is allowed or denied by these digests, since one identity can have more
    than one encoding (a P-256 signature has a twin); identities are told apart by change hashes.
    """

    def __init__(self, limit: int = LIMITS.verified_histories) -> None:
        self._limit = limit
        self._found: OrderedDict[bytes, Identity] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def verify(self, history: ChangeHistory) -> Identity:
        """As :meth:`ChangeHistory.verify`."""
        digest = sha256(history.encoded)
        found = self._found.get(digest)
        if found is not None:
            self._found.move_to_end(digest)
            return found
        found = history.verify()
        self._found[digest] = found
        if len(self._found) > self._limit:
            self._found.popitem(last=False)
        return found
