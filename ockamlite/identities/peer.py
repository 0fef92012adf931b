"""Who is at the other end: the identity payload of a handshake, checked and then remembered.

    payload = [ChangeHistory, PurposeKeyAttestation, [* CredentialAndPurposeKey]]

Verifying stores nothing: a peer is remembered once it is trusted, with :func:`remember`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from ockamlite import cbor
from ockamlite.errors import DecodeError, RemoteError
from ockamlite.identities import fields
from ockamlite.identities.change_history import ChangeHistory, Identity, VerifiedHistories
from ockamlite.identities.credential import Attributes, CredentialAndPurposeKey, VerifiedCredential
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.identifier import Identifier
from ockamlite.identities.purpose_key import Purpose, PurposeKeyAttestation
from ockamlite.limits import LIMITS

if TYPE_CHECKING:
    from ockamlite.identities.store import Store

logger = logging.getLogger(__name__)

Known: TypeAlias = Callable[[Identifier], Identity | None]
"""What is known of an identity from earlier, as :meth:`Store.known_identity` tells."""

_WHAT: Final = "identity payload"


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What a peer proved."""

    identity: Identity
    attestation_expires_at: int
    """Seconds since 1970: until then its static key is its own, and a channel should not outlast it."""
    credentials: tuple[VerifiedCredential, ...] = ()
    """Those that hold, one per authority."""
    is_revoked: bool = False
    """True if a refresh brought a change that revokes the key it opened the channel with."""

    @property
    def identifier(self) -> Identifier:
        """The peer's name."""
        return self.identity.identifier

    def attributes(self, authority: Identifier, now: int) -> Attributes:
        """What ``authority`` states of the peer and has not expired; nobody else's word is mixed in."""
        for credential in self.credentials:
            if credential.authority == authority and credential.is_valid(now):
                return credential.attributes
        return {}


def verify_handshake_payload(
    payload: bytes,
    static_key: bytes,
    now: int,
    *,
    known: Known,
    authorities: Collection[Identity] = (),
    cache: VerifiedHistories | None = None,
) -> PeerIdentity:
    """Check who holds ``static_key``. Stores nothing.

    Args:
        payload: as decrypted; bytes behind it are ignored, as Rust does.
        static_key: the X25519 key that the handshake authenticated.
        now: seconds since 1970.
        known: what is known of an identity from earlier.
        authorities: whose credentials count; without any, credentials are ignored.
        cache: spares a second check of a history.

    Raises:
        DecodeError: malformed, or longer than we accept.
        IdentityError: the first rule that does not hold. A credential's never do that: one that does
            not hold counts for nothing, with a warning in the log.
    """
    parts = fields.slots(cbor.decode(payload, trailing=True), 3, _WHAT)
    history = ChangeHistory.from_cbor(parts[0])
    attestation = PurposeKeyAttestation.from_cbor(parts[1])
    presented = fields.slots(parts[2], 0, _WHAT)
    _check_count(presented)
    identity = history.verify() if cache is None else cache.verify(history)
    identity.check_not_behind(known(identity.identifier))
    attestation.verify(identity, Purpose.SECURE_CHANNEL, now)
    if attestation.key.data != static_key:
        raise IdentityError("attestation", Fault.OTHER_KEY)
    return PeerIdentity(
        identity,
        attestation.expires_at,
        _verify_credentials(presented, CredentialAndPurposeKey.from_cbor, identity, now, authorities),
    )


def verify_refresh(
    history: bytes,
    credentials: Sequence[bytes],
    peer: PeerIdentity,
    now: int,
    *,
    known: Known,
    authorities: Collection[Identity] = (),
    cache: VerifiedHistories | None = None,
) -> PeerIdentity:
    """Check what a peer presents over an open channel: its history and new credentials.

    Args:
        history: CBOR of its change history.
        credentials: CBOR of each credential and purpose key.
        peer: who the peer is so far.
        now: seconds since 1970.
        known: what is known of an identity from earlier.
        authorities: whose credentials count.
        cache: spares a second check of a history.

    Returns:
        The peer with its new history, and new credentials in place of those by the same authority.

    Raises:
        DecodeError: malformed, or longer than we accept.
        IdentityError: the history is another's, older, contradictory or does not hold.
    """
    _check_count(credentials)
    read = ChangeHistory.decode(history)
    identity = read.verify() if cache is None else cache.verify(read)
    if identity.identifier != peer.identifier:
        raise IdentityError("change history", Fault.OTHER_SUBJECT)
    identity.check_not_behind(peer.identity)
    identity.check_not_behind(known(identity.identifier))
    added = identity.changes[len(peer.identity.changes) :]
    found = _verify_credentials(credentials, CredentialAndPurposeKey.decode, identity, now, authorities)
    renewed = {credential.authority for credential in found}
    kept = tuple(c for c in peer.credentials if c.authority not in renewed)
    return replace(
        peer,
        identity=identity,
        credentials=kept + found,
        is_revoked=peer.is_revoked or any(change.revoke_all_purpose_keys for change in added),
    )


def remember(store: Store, peer: PeerIdentity, now: int) -> None:
    """Store the history of a peer that is trusted.

    Raises:
        IdentityError: meanwhile another history of it was stored, which this one is behind.
        StateError: it cannot be stored.
    """
    store.remember(peer.identity, now)


def _check_count(presented: Sequence[object]) -> None:
    if len(presented) > LIMITS.credentials:
        raise DecodeError(f"{len(presented)} credentials are too many")


T = TypeVar("T")


def _verify_credentials(
    presented: Sequence[T],
    read: Callable[[T], CredentialAndPurposeKey],
    subject: Identity,
    now: int,
    authorities: Collection[Identity],
) -> tuple[VerifiedCredential, ...]:
    """Those that hold; of several by one authority the one that lasts longest."""
    if presented and not authorities:
        logger.debug("credentials of %s ignored: no authority is configured", subject.identifier)
        return ()
    found: dict[Identifier, VerifiedCredential] = {}
    for one in presented:
        try:
            credential = read(one).verify(authorities, now, subject=subject)
        except RemoteError as error:
            logger.warning("a credential of %s counts for nothing: %s", subject.identifier, error)
            continue
        best = found.get(credential.authority)
        if best is None or credential.expires_at > best.expires_at:
            found[credential.authority] = credential
    return tuple(found.values())
