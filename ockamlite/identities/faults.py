"""Everything that can be wrong with a well-formed identity, attestation or credential, by name."""

from __future__ import annotations

from enum import Enum

from ockamlite.errors import VerificationError


class Fault(Enum):
    """A rule that does not hold."""

    VERSION = "its version is unknown"
    DATA_TYPE = "it was signed as something else"
    SIGNATURE = "its signature does not hold"

    # Change histories
    NO_CHANGE = "it has no change"
    FIRST_HAS_PREDECESSOR = "its first change names a previous one"
    FIRST_HAS_PREVIOUS_SIGNATURE = "its first change has a signature by a previous key"
    WRONG_PREDECESSOR = "a change does not name the one before it"
    EARLIER_THAN_PREDECESSOR = "a change is valid earlier than the one before it"
    NO_PREVIOUS_SIGNATURE = "a change is not signed by the previous key"
    PREVIOUS_SIGNATURE = "the signature by the previous key does not hold"
    OLDER_HISTORY = "it is older than what is known of this identity"
    CONFLICTING_HISTORY = "it contradicts what is known of this identity"

    # Attestations and credentials
    OTHER_SUBJECT = "it is about somebody else"
    NOT_LATEST_CHANGE = "it is not by the identity's latest key"
    OUTLIVES_ISSUER = "it outlives the key that signed it"
    OLDER_THAN_ISSUER = "it is older than the key that signed it"
    CREATED_AHEAD = "it was created in the future (is the clock right on both sides?)"
    EXPIRED = "it has expired"
    OTHER_PURPOSE = "its key is for another purpose"
    OTHER_KEY = "it is about another key than the one used"

    # Credentials
    UNKNOWN_AUTHORITY = "its issuer is not an authority here"
    NO_SUBJECT = "it is about nobody"
    UNKNOWN_CHANGE = "it names a change that its subject's history does not have"


class IdentityError(VerificationError):
    """A rule of identities that does not hold.

    Attributes:
        what: what was checked, e.g. ``change history``.
        fault: the rule.
    """

    def __init__(self, what: str, fault: Fault) -> None:
        super().__init__(f"{what} refused: {fault.value}")
        self.what = what
        self.fault = fault
